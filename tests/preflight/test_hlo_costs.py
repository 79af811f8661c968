"""Costs read from programs as the TPU compiler prints them (cut down to what is read)."""

from vit_keras.preflight.hlo_costs import read_costs

HEAD = """HloModule step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  ROOT %add = f32[] add(%a, %b)
}

%body (state: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %product = f32[8,4]{1,0:T(8,128)} fusion(%state), kind=kOutput, calls=%inner, \
metadata={op_name="gradient_tape/vit_1/encoderblock_0_1/mlp_1/einsum_1/Einsum"}, \
backend_config={"window_config":{"estimated_cycles":"1000"}}
  ROOT %next = (s32[], f32[8,4]) tuple(%index, %product)
}

%condition (state: (s32[], f32[8,4])) -> pred[] {
  ROOT %less = pred[] compare(%index, %limit), direction=LT
}

ENTRY %main (p0: f32[8,4]) -> f32[8,4] {
  %first = f32[8,4] fusion(%p0), kind=kLoop, calls=%f, \
metadata={op_name="vit_1/embedding_1/Conv2D"}, \
backend_config={"window_config":{"estimated_cycles":"70"}}
"""
TAIL = """
  %reduced = (f32[8,4]{1,0}, bf16[3]{0}) all-reduce(%first, %other), to_apply=%sum
  ROOT %out = f32[8,4] copy(%first), backend_config={"window_config":{"estimated_cycles":"5"}}
}
"""
LOOP = "  %loop = (s32[], f32[8,4]) while(%start), condition=%condition, body=%body"
COUNTED = LOOP + ', backend_config={"known_trip_count":{"n":"3"}}'


def test_a_loop_costs_as_often_as_it_runs():
    costs = read_costs(HEAD + COUNTED + TAIL)
    assert costs.cycles == 3 * 1000 + 70 + 5


def test_a_loop_that_the_compiler_does_not_count_runs_as_often_as_there_are_micro_batches():
    assert read_costs(HEAD + LOOP + TAIL, loop_trips=2).cycles == 2 * 1000 + 75
    assert read_costs(HEAD + COUNTED + TAIL, loop_trips=2).cycles == 3 * 1000 + 75


def test_operations_are_named_by_layer_and_sorted():
    operations = read_costs(HEAD + LOOP + TAIL, loop_trips=2).operations
    assert operations[0] == ("encoderblock_0/mlp/einsum_1/Einsum (backward)", 2000)
    assert operations[1] == ("vit/embedding/Conv2D", 70)
    assert operations[2][1] == 5


def test_all_reduced_bytes_count_every_tensor_of_the_operation():
    assert read_costs(HEAD + TAIL).all_reduce_bytes == 8 * 4 * 4 + 3 * 2
