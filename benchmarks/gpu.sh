#!/usr/bin/env bash
# All that a machine with a GPU is needed for, in one call of under nine minutes, without a network:
# is the GPU's report the CPU's, what does a report cost, and beside the libraries, and as a survey?
#
#   benchmarks/gpu.sh OUT [WHEELS]
#
# OUT gets summary.md, a Markdown file for each kind of part, results.json and log.txt. WHEELS is a
# folder of wheels of what the machine lacks (GPU.md says how to fill it); they go before what is
# installed. These variables are read:
#
#   PYTHON  a Python that has PyTorch; else .venv's, python3 or python, the first that has it
#   DEVICE  cuda or cpu; else cuda where it works
#   QUICK   1 for small counts, 0 for those that are worth keeping; else 1 on the CPU, 0 on a GPU
#   MODEL   a model file; else ResNets with random weights, or the example's with QUICK=1
#   BUDGET  seconds for everything, 510 if not given; what does not fit any more is left out
set -uo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: benchmarks/gpu.sh OUT [WHEELS]" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
out=$(mkdir -p "$1" && cd "$1" && pwd) || exit 2
wheels=${2:-}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
mkdir "$work/parts" "$work/site"

budget=${BUDGET:-510}
signs=$root/examples/signs
picture=$signs/pictures/stop.png
failed=0
took=0
: >"$work/notes"
: >"$work/rows"
: >"$out/log.txt"
export PYTHONPATH="$work/site:$root" PYTHONUNBUFFERED=1 MPLCONFIGDIR="$work"

note() { printf -- '- %s\n' "$*" >>"$work/notes"; }

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" "$root/.venv/bin/python" python3 python; do
    if [ -n "$candidate" ] && "$candidate" -c 'import torch' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

# Without their needs: a wheel must not replace the PyTorch that fits the driver.
install() {
  "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
    --upgrade --target "$work/site" "$@" >>"$out/log.txt" 2>&1
}

# One at a time where they fail together: one that does not fit this Python costs only itself.
install_wheels() {
  local wheel
  if install "$wheels"/*.whl; then return; fi
  for wheel in "$wheels"/*.whl; do
    install "$wheel" || note "$(basename "$wheel") could not be installed; log.txt says why."
  done
}

# WeasyPrint asks for Pango when it is imported; where WeasyPrint is missing, so is Pango.
stand_in_for_weasyprint() {
  if ! "$python" -c 'import importlib.util as u; exit(u.find_spec("weasyprint") is None)'; then
    echo 'raise OSError("WeasyPrint is not installed")' >"$work/site/weasyprint.py"
  fi
}

has_gpu() { "$python" -c 'import torch; exit(not torch.cuda.is_available())' 2>/dev/null; }
has_pdf() {
  "$python" -c 'from reportgen.render.pdf import pdf_obstacle; exit(pdf_obstacle() is not None)' \
    2>>"$out/log.txt"
}

# Write the facts on the machine, and what cannot be imported.
describe() {
  timeout $((budget < 90 ? budget + 1 : 90)) "$python" - <<'EOF'
import importlib, os, platform, sys, torch
from importlib.metadata import PackageNotFoundError, version
print(f"- PyTorch {torch.__version__}, CUDA {torch.version.cuda}, Python "
      f"{platform.python_version()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    found = torch.cuda.get_device_properties(number)
    print(f"- GPU {number}: {found.name}, {found.total_memory / 2**30:.0f} GiB, "
          f"compute capability {found.major}.{found.minor}")
names = {"captum": "captum", "grad-cam": "pytorch_grad_cam", "jinja2": "jinja2", "lime": "lime",
         "matplotlib": "matplotlib", "numba": "numba", "numpy": "numpy", "pydantic": "pydantic",
         "rich": "rich", "safetensors": "safetensors", "scikit-image": "skimage", "scipy": "scipy",
         "shap": "shap", "torchmetrics": "torchmetrics", "torchvision": "torchvision",
         "typer": "typer"}
there, missing = [], []
try:
    from reportgen.classifier.torchvision_operators import ensure_torchvision
    ensure_torchvision()
except ImportError:
    pass
for name, module in names.items():
    try:
        importlib.import_module(module)
        there.append(f"{name} {version(name)}")
    except PackageNotFoundError:
        there.append(name)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        missing.append(f"{name} ({type(error).__name__}: {reason})")
print(f"- Packages: {', '.join(there)}")
if missing:
    print(f"- **Cannot be imported: {'; '.join(missing)}**")
EOF
}

driver() {
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null |
      sed 's/\(.*\), \(.*\)/- \1, driver \2/'
  fi
}

# part NAME SECONDS SCRIPT ARGUMENTS...: run a script within its seconds, and within what is left.
part() {
  local name=$1 limit=$2 script=$3 left=$((budget - SECONDS)) start=$SECONDS status outcome
  shift 3
  if [ "$left" -lt 10 ]; then
    failed=1
    echo "| $name | **left out: no time left** | 0 |" >>"$work/rows"
    return 1
  fi
  if [ "$limit" -gt "$left" ]; then limit=$left; fi
  echo "$name, at most $limit s: $script $*" >&2
  timeout --kill-after=5 "$limit" "$python" "$root/benchmarks/$script" "$@" \
    >"$work/output" 2>"$work/errors" </dev/null
  status=$?
  took=$((SECONDS - start))
  case $status in
  0) outcome=ran ;;
  124 | 137) outcome="**stopped: more than its $limit s**" ;;
  *) outcome="**failed ($status): $(tail -n 1 "$work/errors" | tr '|' '/' | cut -c 1-300)**" ;;
  esac
  if [ "$status" -ne 0 ]; then failed=1; fi
  echo "| $name | $outcome | $took |" >>"$work/rows"
  log_part "$name"
  publish
  return "$status"
}

log_part() {
  {
    printf '\n=== %s: output\n' "$1"
    tail -c 200000 "$work/output"
    printf '\n=== %s: errors\n' "$1"
    tail -c 200000 "$work/errors"
  } >>"$out/log.txt"
}

# Write all there is so far: a call that is cut short keeps what it had.
publish() {
  local kind
  for kind in devices cost libraries scaling; do
    if compgen -G "$work/parts/$kind*.md" >/dev/null; then
      cat "$work/parts/$kind"*.md >"$out/$kind.md"
    fi
  done
  "$python" - "$work/parts" "$out/results.json" <<'EOF'
import json, pathlib, sys
found = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json")):
    try:
        found[path.stem] = json.loads(path.read_text())
    except ValueError:
        print(f"{path.name} was cut short", file=sys.stderr)
pathlib.Path(sys.argv[2]).write_text(json.dumps(found) + "\n")
EOF
  summary
}

summary() {
  {
    echo "# What was measured on ${device}"
    echo
    cat "$work/facts" "$work/notes"
    printf '\n| part | outcome | seconds |\n|---|---|---|\n'
    cat "$work/rows"
    echo
    cat "$work/parts"/devices*.md 2>/dev/null | grep '^\*\*Verdict' | sed 's/$/\n/'
    echo "All parts together took $SECONDS s of $budget s."
  } >"$out/summary.md"
}

# live NAME: write the network with random weights, and print its file.
live() {
  local file=$work/$1.pth
  timeout 60 "$python" "$root/benchmarks/live.py" "$1" "$file" >>"$out/log.txt" 2>&1 &&
    echo "$file"
}

# The libraries hook modules, which the example's network, an exported program, has not.
choose_models() {
  model=${MODEL:-} large=${MODEL:-} hooked=${MODEL:-}
  if [ -n "$model" ]; then return; fi
  model=$signs/signs.pt2 large=$signs/signs.pt2
  if ! hooked=$(live resnet18); then
    hooked=$model
    note "torchvision's networks cannot be made here (log.txt says why), so the example's small" \
      "network is measured, with which the libraries fail; name another with MODEL=..."
  elif [ "$quick" = 0 ]; then
    model=$hooked
    large=$(live resnet50) || large=$model
    hooked=$large
  fi
}

# files NAME: the options that say where a script writes.
files() { written=(--out "$work/parts/$1.md" --json "$work/parts/$1.json"); }

run_devices() {
  local few=()
  if [ "$quick" = 1 ]; then
    few=(--methods "gradcam,saliency,lime,rise"
      --metrics "deletion,insertion,complexity,agreement")
  fi
  files devices
  if [ "$device" = cpu ]; then
    part devices 300 devices.py "$model" "$picture" --devices cpu,cpu --batch-size 16,5 \
      "${few[@]}" "${written[@]}"
    return
  fi
  part devices 150 devices.py "$model" "$picture" --devices "cpu,$device" \
    "${few[@]}" "${written[@]}"
  if [ "$model" != "$signs/signs.pt2" ]; then
    files devices-example
    part devices-example 60 devices.py "$signs/signs.pt2" "$picture" --devices "cpu,$device" \
      "${few[@]}" "${written[@]}"
  fi
}

run_cost() {
  local limit=110 counts=(--least 1)
  if [ "$quick" = 1 ]; then
    printf 'methods = "gradcam,saliency"\nmetrics = "deletion,complexity"\n' >"$work/few.toml"
    limit=400 counts=(--least 0.1 --profile quick --config "$work/few.toml")
  fi
  files "cost-$1"
  part "cost-$1" "$limit" cost.py "$large" "$picture" --device "$device" --precision "$1" \
    "${counts[@]}" "${written[@]}"
}

run_libraries() {
  local limit=100 few=()
  if [ "$quick" = 1 ]; then
    limit=300 few=(--lime-samples 20 --shap-evals 20 --ig-steps 4 --curve-steps 4)
  fi
  files libraries
  part libraries "$limit" libraries.py "$hooked" "$picture" --device "$device" \
    "${few[@]}" "${written[@]}"
}

run_scaling() {
  local sizes=1,10,100 survey
  if [ "$quick" = 1 ]; then sizes=1,2; fi
  survey=(--methods "gradcam,saliency" --metrics "deletion,insertion,complexity")
  survey+=(--device "$device" --formats "$formats")
  files scaling
  # A thousand take nine times what 111 took; what comes after this needs its time too.
  if part scaling 90 scaling.py "$model" "$signs"/pictures/*.png --counts "$sizes" \
    "${survey[@]}" "${written[@]}" &&
    [ "$quick" = 0 ] && [ $((10 * took)) -lt $((budget - SECONDS - 110)) ]; then
    files scaling-1000
    part scaling-1000 $((budget - SECONDS)) scaling.py "$model" "$signs"/pictures/*.png \
      --counts 1000 "${survey[@]}" "${written[@]}"
  fi
}

if ! python=$(find_python); then
  echo "No Python with PyTorch was found; name one with PYTHON=..." | tee "$out/summary.md" >&2
  exit 1
fi
if [ -n "$wheels" ]; then install_wheels; fi
stand_in_for_weasyprint
device=${DEVICE:-cuda}
if ! has_gpu; then
  note "**There is no GPU here.**"
  device=${DEVICE:-cpu}
fi
case $device in cpu) quick=${QUICK:-1} ;; *) quick=${QUICK:-0} ;; esac
if [ "$quick" = 1 ]; then note "Small counts (QUICK=1): the times are not worth keeping."; fi
formats=json,csv,html,pdf
if ! has_pdf; then
  formats=json,csv,html
  note "PDF is left out: WeasyPrint or its library Pango is missing."
fi
{ driver; describe; } >"$work/facts" 2>>"$out/log.txt"
choose_models
publish

run_devices
run_cost float32
run_libraries
run_cost bf16
run_scaling
if [ "$device" != cpu ]; then run_cost tf32; fi

publish
cat "$out/summary.md"
exit "$failed"
