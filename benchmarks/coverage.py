"""How far `reportgen explain MODEL IMAGE` works with no flag: architectures times file formats.

    python benchmarks/coverage.py [GROUPS...] [--formats FORMATS] [--names NAMES] [--image IMAGE]
        [--assets FOLDER] [--limit SECONDS] [--brief] [--rows FILE.jsonl] [--out FILE.md]

GROUPS are torchvision, timm, transformers and assets; all by default. FORMATS are beside the one
that each network's users have: "TorchScript,exported program,ONNX" by default, and "state dict"
for transformers. The first format gets the profile quick, or with --brief three of its methods and
their agreement; the others get Grad-CAM. What is in the rows already is not run again, so that a
run that was cut off goes on.
"""

from __future__ import annotations

if __name__ == "coverage":
    # numba looks for the package of this name, and would take this script for it.
    raise ImportError("benchmarks/coverage.py is a script, not the package coverage")

if __name__ == "__main__":
    from coverage_run import main

    main()
