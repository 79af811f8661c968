"""Compiles an XLA program with libtpu's compiler; needs no TPU.

Run as a script, in a process of its own, because libtpu and TensorFlow don't share one gladly:

  python tpu_compiler.py JOB.json

It imports neither TensorFlow nor anything else of this package. JOB.json names the program (a
serialized `HloModuleProto`), the topology and where to write what it found.
"""

from __future__ import annotations

import json
import math
import os
import sys


def compile_program(job: dict) -> tuple[dict, str]:
    """Compiles `job["program"]` for `job["num_replicas"]` devices of `job["topology"]`.

    Args:
      job: `program` (path), `topology` (libtpu's name), `topology_options` (of libtpu),
        `num_replicas`, `loop_trips` (how often the loop over micro-batches runs), `options` (XLA
        options by name, may be absent).

    Returns:
      Memory in bytes and costs of one device's program, and the optimised HLO as text.
    """
    import jaxlib
    import numpy as np
    from jax._src.interpreters import mlir
    from jax.experimental import topologies
    from jaxlib import _jax
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import mhlo

    with open(job["program"], "rb") as file:
        module = _jax.mlir.hlo_to_stablehlo(file.read())
    topology = topologies.get_topology_desc(
        platform="tpu", topology_name=job["topology"], **job.get("topology_options", {})
    )
    num_replicas = job["num_replicas"]
    devices = topology.devices[:num_replicas]
    if len(devices) < num_replicas:
        raise ValueError(f"{job['topology']} has {len(devices)} devices, not {num_replicas}.")
    options = _jax.CompileOptions()
    options.num_replicas, options.num_partitions = num_replicas, 1
    options.device_assignment = _jax.DeviceAssignment.create(
        np.array([[device.id] for device in devices])
    )
    options.env_option_overrides = list(job.get("options", {}).items())
    with mlir.make_ir_context() as context:
        mhlo.register_mhlo_dialect(context)
        parsed = ir.Module.parse(module)
        drop_copies(parsed)
        flops = _matrix_flops(parsed, job.get("loop_trips", 1))
        executable = devices[0].client.compile(parsed, _jax.DeviceList(tuple(devices)), options)
    memory = executable.get_compiled_memory_stats()
    costs = executable.cost_analysis()
    costs = costs[0] if isinstance(costs, list) else costs
    (optimised,) = executable.hlo_modules()
    found = {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "aliases": memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
        "peak": getattr(memory, "peak_memory_in_bytes", None),
        "flops": flops,
        "bytes_accessed": costs.get("bytes accessed"),
        "jaxlib": jaxlib.__version__,
    }
    return found, optimised.to_string()


def drop_copies(module) -> None:
    """Removes the `mhlo.copy` operations that the conversion from HLO leaves behind."""
    copies = []

    def visit(operation):
        for region in operation.regions:
            for block in region.blocks:
                for inner in block.operations:
                    if inner.operation.name == "mhlo.copy":
                        copies.append(inner.operation)
                    else:
                        visit(inner.operation)

    visit(module.operation)
    for copy in copies:
        copy.result.replace_all_uses_with(copy.operands[0])
        copy.erase()


def _matrix_flops(module, loop_trips: int) -> int:
    """FLOPs of the matrix products and convolutions that the program asks for.

    XLA's own count takes every loop as one turn. Here the only loop with products inside is the one
    over micro-batches.
    """
    from jaxlib.mlir.dialects import stablehlo
    from jaxlib.mlir.ir import RankedTensorType, StringAttr

    functions = {
        StringAttr(operation.attributes["sym_name"]).value: operation.operation
        for operation in module.body.operations
    }

    def shape(value):
        return RankedTensorType(value.type).shape

    def live(block):
        """The operations whose results are used; not the gradient of the images, for one."""
        dead = set()
        for operation in reversed(list(block.operations)):
            operation = operation.operation
            results = list(operation.results)
            if results and all(use.owner.operation in dead for r in results for use in r.uses):
                dead.add(operation)
            else:
                yield operation

    def count(operation, times):
        total = 0
        blocks = [block for region in operation.regions for block in region.blocks]
        for inner in (operation for block in blocks for operation in live(block)):
            if inner.name == "stablehlo.dot_general":
                numbers = stablehlo.DotDimensionNumbers(inner.attributes["dot_dimension_numbers"])
                depth = 1
                for axis in numbers.lhs_contracting_dimensions:
                    depth *= shape(inner.operands[0])[axis]
                total += times * 2 * math.prod(shape(inner.result)) * depth
            elif inner.name == "stablehlo.dot":
                depth = shape(inner.operands[0])[-1]
                total += times * 2 * math.prod(shape(inner.result)) * depth
            elif inner.name == "stablehlo.convolution":
                numbers = stablehlo.ConvDimensionNumbers(inner.attributes["dimension_numbers"])
                kernel = list(shape(inner.operands[1]))
                kernel.pop(numbers.kernel_output_feature_dimension)
                total += times * 2 * math.prod(shape(inner.result)) * math.prod(kernel)
            elif inner.name == "func.call":
                callee = inner.attributes["callee"].value
                total += count(functions[callee], times)
            else:
                inside = loop_trips if inner.name == "stablehlo.while" else 1
                total += count(inner, times * inside)
        return total

    return count(functions["main"], 1)


def main(path: str) -> None:
    """Does the job described in the file `path`."""
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    found, text = compile_program(job)
    with open(job["hlo"], "w", encoding="utf-8") as file:
        file.write(text)
    with open(job["result"], "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    # Neither ask Google's metadata server whether this is a TPU, nor let JAX look for one; and
    # don't insist on being the only process that has loaded libtpu, since no device is used.
    os.environ.update(TPU_SKIP_MDS_QUERY="1", JAX_PLATFORMS="cpu", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    main(sys.argv[1])
