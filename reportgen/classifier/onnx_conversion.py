"""An ONNX graph as a PyTorch network, made by onnx2torch and held against onnxruntime.

onnx2torch refuses operators whose definition is newer than the one that it was written for, though
most were only allowed more types, and a few forms that exporters write. Both are bridged here, and
a network is accepted only where its outputs are onnxruntime's: a bridge that does not hold shows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, fx, nn

from reportgen.classifier.input_sizes import USUAL_SIDES
from reportgen.classifier.normalisation import WHITE
from reportgen.classifier.onnx_graphs import Graph, Intake
from reportgen.classifier.outputs import tensors_in
from reportgen.classifier.photograph import photograph
from reportgen.errors import NotApplicable

Run = Callable[[Tensor], object]

_ROUNDING = 1e-4
_OWN_ROUNDING = 1e-5
_BATCHES = (1, 2, 3)
_STEP = 32
_SHOWN = 3
_STORED = "initializers"
_UPGRADED = 13
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")


@dataclass(frozen=True)
class Converted:
    """A network that says what onnxruntime says, to within ``difference`` of the largest output.

    ``any_batch`` says that it takes batches of any size, also where the graph states one.
    """

    network: nn.Module
    difference: float
    any_batch: bool


def converted(graph: Graph, reference: Run) -> Converted:
    """Return a graph as a network in eval mode, from NCHW float batches to its outputs.

    ``reference`` runs the same graph. Raises NotApplicable, with the reason, where there is no
    such network, its outputs differ from the reference's by more than 1e-4 of the largest, or no
    gradient passes through it. Noise for which rounding alone changes the outputs tells nothing.
    """
    network = _network(graph)
    batches = list(_probes(graph.intake, reference))
    try:
        with torch.no_grad():
            differences = [_difference(network(batch), reference(batch)) for batch in batches]
        output = network(batches[0].clone().requires_grad_())
    except Exception as error:
        raise NotApplicable(f"what onnx2torch makes of it does not run ({_first(error)})") from None
    difference = max(differences)
    if not difference <= _ROUNDING:
        both = zip(differences, batches, strict=True)
        told = [d for d, batch in both if d <= _ROUNDING or _tells(network, batch)]
        difference = max(told, default=difference)
    if not difference <= _ROUNDING:
        raise NotApplicable(
            "what onnx2torch makes of it gives other outputs (they differ by "
            f"{difference:.1e} of the largest)"
        )
    if not any(tensor.requires_grad for tensor in tensors_in(output)):
        raise NotApplicable("no gradient passes through what onnx2torch makes of it")
    free = graph.intake.batch is None or _takes_any_batch(network, batches[0], reference)
    return Converted(network, difference, free)


def _network(graph: Graph) -> fx.GraphModule:
    _bridge()
    proto = _readable(graph.proto)
    missing = _missing(proto)
    if missing:
        more = ", ..." if len(missing) > _SHOWN else ""
        named = ", ".join(missing[:_SHOWN])
        raise NotApplicable(f"onnx2torch has nothing for its operators {named}{more}")
    try:
        network = _made(proto)
    except Exception as error:  # whatever a library says to a graph that it does not know
        raise NotApplicable(f"onnx2torch cannot convert it ({_first(error)})") from None
    _mend(network)
    _store_as_parameters(network)
    if graph.intake.channels_last:
        _take_channels_first(network)
    if len(graph.outputs) > 1:
        _name_outputs(network, graph.outputs)
    network.recompile()
    return network


def _made(proto: Any) -> fx.GraphModule:
    """Return what onnx2torch makes of a graph, or else of the graph with its constants computed."""
    import onnx2torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of shows in the outputs
        try:
            network: fx.GraphModule = onnx2torch.convert(proto)
        except Exception as error:
            try:  # it wants weights that are stored, which standardised ones are not
                network = onnx2torch.convert(_computed(proto))
            except Exception:
                raise error from None
    return network.eval()


def _computed(proto: Any) -> Any:
    """Return the model with what hangs on no picture computed and stored, by onnxruntime."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/computed.onnx"
        providers = ["CPUExecutionProvider"]
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=providers)
        return onnx.load(options.optimized_model_filepath)


def _readable(proto: Any) -> Any:
    """Return a copy without forms that onnx2torch does not read, though it knows what they do."""
    from onnx.inliner import inline_local_functions

    copy = type(proto)()
    copy.CopyFrom(proto)
    copy = inline_local_functions(copy)
    copy = _upgraded(copy) if _missing(copy) else copy
    _store_constants(copy.graph)
    for node in copy.graph.node:
        # It makes up names for those without, which others may have.
        node.name = node.name or f"{node.op_type}/{node.output[0]}"
        if node.op_type == "Reshape":
            # It says how zeros in a shape are read, and hardly any shape has one.
            kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return copy


def _upgraded(proto: Any) -> Any:
    """Return a model in newer definitions, where its own are older than most of onnx2torch's."""
    from onnx.version_converter import convert_version

    if all(entry.domain or entry.version >= _UPGRADED for entry in proto.opset_import):
        return proto
    try:
        return convert_version(proto, _UPGRADED)
    except Exception:  # whatever a library says to a graph that it does not know
        return proto


def _store_constants(graph: Any) -> None:
    """Store constants with the weights, each once: exporters write nodes that only hand them on."""
    stored = {tensor.name for tensor in graph.initializer}
    given = {output.name for output in graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Identity" and node.input[0] in stored and node.output[0] not in given:
            renamed[node.output[0]] = node.input[0]
        elif node.op_type == "Constant" and value is not None and node.output[0] not in given:
            graph.initializer.add().CopyFrom(value)
            graph.initializer[-1].name = node.output[0]
            stored.add(node.output[0])
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _missing(proto: Any) -> list[str]:
    from onnx2torch.node_converters import get_converter

    versions = {entry.domain: entry.version for entry in proto.opset_import}
    missing = []
    for domain, kind in sorted({(node.domain, node.op_type) for node in proto.graph.node}):
        try:
            get_converter(kind, versions[domain], domain)
        except (NotImplementedError, KeyError):
            missing.append(kind)
    return missing


@cache
def _bridge() -> None:
    """Let onnx2torch convert GELU, reductions with stored axes, and definitions newer than its own.

    It is told of them in the way that it offers for converters of others.
    """
    from onnx import defs
    from onnx2torch.node_converters import add_converter, get_converter

    additions: Mapping[tuple[str, int], Any] = {
        ("Gelu", 20): _gelu,
        **{(f"Reduce{kind}", 18): _reduction for kind in _REDUCTIONS},
    }
    for schema in sorted(defs.get_all_schemas_with_history(), key=lambda s: int(s.since_version)):
        if schema.domain == "":
            name, version = schema.name, schema.since_version
            if not _knows(get_converter, name, version):
                older = additions.get((name, version)) or _latest(get_converter, name, version - 1)
                if older is not None:
                    add_converter(name, version)(older)


def _knows(find: Callable[[str, int], Any], name: str, version: int) -> bool:
    try:
        find(name, version)
    except NotImplementedError:
        return False
    return True


def _latest(find: Callable[[str, int], Any], name: str, version: int) -> Any:
    """Return the converter for the definition that was valid at ``version``, or None."""
    return find(name, version) if _knows(find, name, version) else None


def _gelu(node: Any, graph: Any) -> Any:
    from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node

    module = nn.GELU(node.attributes.get("approximate", "none"))
    return OperationConverterResult(module, onnx_mapping_from_node(node))


def _reduction(node: Any, graph: Any) -> Any:
    from onnx2torch.node_converters.reduce import OnnxReduceStaticAxes
    from onnx2torch.utils.common import OnnxMapping, OperationConverterResult, get_const_value

    axes = None
    if len(node.input_values) > 1:
        axes = get_const_value(node.input_values[1], graph).tolist()
    module = OnnxReduceStaticAxes(node.operation_type, axes, node.attributes.get("keepdims", 1))
    return OperationConverterResult(module, OnnxMapping(node.input_values[:1], node.output_values))


class _Slice(nn.Module):
    """ONNX's Slice. onnx2torch's own indexes with a list, which PyTorch is about to read otherwise.

    ``starts``, ``ends``, ``axes`` and ``steps`` are whole numbers (n,).
    """

    def forward(
        self,
        values: Tensor,
        starts: Tensor,
        ends: Tensor,
        axes: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> Tensor:
        """Return the slice; a negative step goes backwards."""
        places = list(range(len(starts))) if axes is None else axes.tolist()
        strides = [1] * len(starts) if steps is None else steps.tolist()
        chosen = [slice(None)] * values.ndim
        backwards = [place for place, step in zip(places, strides, strict=True) if step < 0]
        for place, start, end, step in zip(
            places, starts.tolist(), ends.tolist(), strides, strict=True
        ):
            ends_of = (start, end) if step > 0 else (-start - 1, -end - 1)
            chosen[place] = slice(*slice(*ends_of, abs(step)).indices(values.shape[place]))
        return (values.flip(backwards) if backwards else values)[tuple(chosen)]


def _mend(network: nn.Module) -> None:
    from onnx2torch.node_converters.slice import OnnxSlice

    for name, module in list(network.named_children()):
        if isinstance(module, OnnxSlice):
            network.add_module(name, _Slice())
        elif isinstance(module, nn.LayerNorm):
            # It was taken from the shapes of the graph, which need not be known.
            module.normalized_shape = tuple(module.weight.shape)


def _store_as_parameters(network: nn.Module) -> None:
    # Weights of products are buffers of one module; what re-draws or counts weights looks for
    # parameters. Single numbers are no weights.
    for owner_name, owner in network.named_modules():
        if owner_name.partition(".")[0] == _STORED:
            for name, tensor in list(owner.named_buffers(recurse=False)):
                if tensor.is_floating_point() and tensor.numel() > 1:
                    delattr(owner, name)
                    owner.register_parameter(name, nn.Parameter(tensor))


def _take_channels_first(network: fx.GraphModule) -> None:
    given = next(node for node in network.graph.nodes if node.op == "placeholder")
    with network.graph.inserting_after(given):
        turned = network.graph.call_method("permute", (given, 0, 2, 3, 1))
    given.replace_all_uses_with(turned, delete_user_cb=lambda user: user is not turned)


def _name_outputs(network: fx.GraphModule, names: tuple[str, ...]) -> None:
    last = next(node for node in network.graph.nodes if node.op == "output")
    values = last.args[0]
    if not isinstance(values, list | tuple) or len(values) != len(names):
        raise NotApplicable("onnx2torch joins some of its outputs")
    last.args = (dict(zip(names, values, strict=True)),)


def _probes(intake: Intake, reference: Run) -> Iterator[Tensor]:
    """Give batches of noise, and a photograph, of each size that is looked at.

    Raises NotApplicable where none is taken.
    """
    sizes = _sizes(intake, reference)
    if not sizes:
        raise NotApplicable("it takes none of the usual sizes, with which both could be compared")
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        for number, count in enumerate((intake.batch,) if intake.batch else _BATCHES):
            shape = (count, intake.channels or 3, *size)
            uniform = torch.rand(shape, generator=generator)
            if intake.whole:
                yield (uniform * WHITE).round()
            else:
                yield torch.randn(shape, generator=generator) if number % 2 else uniform
        if not intake.whole:
            known = photograph(intake.channels or 3, size)
            yield known.repeat(intake.batch or 1, 1, 1, 1)


def _sizes(intake: Intake, reference: Run) -> list[tuple[int, int]]:
    """Return the stated size, or the first usual one that is taken and one that is larger."""
    if intake.size:
        return [intake.size]
    usual = next((side for side in USUAL_SIDES if _runs(intake, reference, side)), None)
    if usual is None:
        return []
    larger = usual + _STEP
    return [(side, side) for side in (usual, larger) if _runs(intake, reference, side)]


def _runs(intake: Intake, run: Run, side: int) -> bool:
    try:
        run(torch.zeros(intake.batch or 1, intake.channels or 3, side, side))
    except Exception:  # whatever a graph says to a size that does not fit
        return False
    return True


def _takes_any_batch(network: nn.Module, batch: Tensor, reference: Run) -> bool:
    """Return whether two batches of the stated size give together what each gives alone."""
    batches = (batch, batch.flip(0, -1))
    try:
        with torch.no_grad():
            together = tensors_in(network(torch.cat(batches)))
        alone = zip(*(tensors_in(reference(part)) for part in batches), strict=True)
        expected = [torch.cat(parts) for parts in alone]
        return _difference(together, expected) <= _ROUNDING
    except Exception:  # whatever a graph says to a batch of another size
        return False


def _difference(found: object, expected: object) -> float:
    """Return the largest difference of outputs, as a share of the largest value of each."""
    pairs = list(zip(tensors_in(found), tensors_in(expected), strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return float("inf")
    scales = [
        (one - other).abs().max() / other.abs().max().clamp_min(1e-12) for one, other in pairs
    ]
    return float(max(scales))


def _tells(network: nn.Module, batch: Tensor) -> bool:
    """Return whether the outputs for a batch hardly depend on the precision of the arithmetic."""
    try:
        with torch.no_grad():
            exact = deepcopy(network).double()(batch.double())
            return _difference(network(batch), exact) <= _OWN_ROUNDING
    except Exception:  # a graph may name the precision of what it computes
        return True


def _first(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), "").rstrip(".")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
