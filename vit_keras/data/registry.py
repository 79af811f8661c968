"""Named preprocessing operations, and the readable strings that chain them.

A pipeline is written as big_vision's users know it,
`"decode_jpeg_and_inception_crop(224)|flip_lr|randaug(2, 10)|value_range(-1, 1)|onehot(1000)"`:
operations joined by `|`, each a registered name with literal arguments. It is parsed, never
evaluated. An operation is registered as a factory: called with the arguments of the string, it
returns the function that is applied to each example:

    @register_op("blank_rows")
    def blank_rows(count=1):
        def apply(image, seed):
            ...
            return image
        return apply

`apply` gets the tensor under the key "image" and, if it names a parameter `seed`, a stateless seed
of shape (2,) of its own: random operations must draw from it alone, then an example is the same
whichever host makes it and however often training was interrupted. It is traced without AutoGraph:
write `tf.cond`, not `if`, for what depends on a tensor. `register_op(name,
on="example")` hands over the whole dictionary instead. Operations on a tensor also take `key`, or
`inkey` and `outkey`, in the string to work on another entry of the example.
"""

import ast
import inspect
from collections.abc import Callable, Mapping

import tensorflow as tf

from vit_keras.data.suggestions import unknown_name

Example = dict[str, tf.Tensor]
_KEY_ARGUMENTS = ("key", "inkey", "outkey")
_OPS: dict[str, tuple[Callable, str]] = {}


def register_op(name: str, *, on: str = "image") -> Callable[[Callable], Callable]:
    """Decorator that makes a factory available under `name` in pipeline strings.

    Args:
        name: a Python identifier, not yet taken.
        on: "image" if the function maps one tensor to one tensor, "example" if it maps the
            example's dictionary to a dictionary.

    Raises:
        ValueError: for a name that is taken or no identifier, or another `on`.
    """
    if not name.isidentifier():
        raise ValueError(f"An operation's name must be an identifier, got {name!r}.")
    if on not in ("image", "example"):
        raise ValueError(f'on must be "image" or "example", got {on!r}.')

    def register(factory: Callable) -> Callable:
        taken = _OPS.get(name)
        # The same function again is a module being reloaded, as in a notebook.
        if taken and (taken[0].__module__, taken[0].__qualname__) != (
            factory.__module__,
            factory.__qualname__,
        ):
            raise ValueError(
                f"The operation {name!r} is already registered by {taken[0].__module__}."
            )
        _OPS[name] = (factory, on)
        return factory

    return register


def available_ops() -> dict[str, str]:
    """Name -> signature of every registered operation."""
    _load_own_ops()
    return {name: f"{name}{inspect.signature(_OPS[name][0])}" for name in sorted(_OPS)}


def build_pipeline(pipeline: str) -> Callable[[Mapping[str, tf.Tensor], tf.Tensor], Example]:
    """Turns a pipeline string into a function `(example, seed) -> example`.

    Args:
        pipeline: for instance "decode|resize(224)|flip_lr". An empty string changes nothing.

    Returns:
        A function of an example's dictionary and an integer seed of shape (2,), usable eagerly and
        in `tf.data`. The n-th operation draws from the seed with n mixed in.

    Raises:
        ValueError: for a string that doesn't parse, an unknown operation or argument, or an
            argument that isn't a literal; names what is valid.
    """
    _load_own_ops()
    steps = [_bind(*call, pipeline) for call in _parse(pipeline)]

    def apply(example: Mapping[str, tf.Tensor], seed: tf.Tensor) -> Example:
        example = {key: tf.convert_to_tensor(value) for key, value in example.items()}
        for index, step in enumerate(steps):
            example = step(example, tf.stack([seed[0] + index * 0x9E3779B1, seed[1]]))
        return example

    return apply


def _load_own_ops() -> None:
    # Imported late: the operations' modules import this one for its decorator.
    from vit_keras.data import ops  # noqa: F401


def _parse(pipeline: str) -> list[tuple[str, list, dict]]:
    """`"a(1)|b"` -> [("a", [1], {}), ("b", [], {})]."""
    if not isinstance(pipeline, str):
        raise ValueError(f"A pipeline must be a string, got {pipeline!r}.")
    if not pipeline.strip():
        return []
    try:
        node = ast.parse(pipeline.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(
            f"Cannot parse the pipeline {pipeline!r}: {error.msg} at character {error.offset}. "
            "Expected operations joined by |, as in 'decode|resize(224)'."
        ) from error
    calls = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        calls.append(_parse_call(node.right, pipeline))
        node = node.left
    calls.append(_parse_call(node, pipeline))
    return calls[::-1]


def _parse_call(node: ast.expr, pipeline: str) -> tuple[str, list, dict]:
    function, args, keywords = node, [], []
    if isinstance(node, ast.Call):
        function, args, keywords = node.func, node.args, node.keywords
    text = ast.unparse(node)
    if not isinstance(function, ast.Name) or any(keyword.arg is None for keyword in keywords):
        raise ValueError(
            f"{text!r} in the pipeline {pipeline!r} is not an operation: expected name or "
            "name(arguments)."
        )
    try:
        return (
            function.id,
            [ast.literal_eval(arg) for arg in args],
            {keyword.arg: ast.literal_eval(keyword.value) for keyword in keywords},
        )
    except ValueError as error:
        raise ValueError(
            f"The arguments of {text!r} in the pipeline {pipeline!r} must be literals "
            "(numbers, strings, tuples, True, False, None)."
        ) from error


def _bind(name: str, args: list, kwargs: dict, pipeline: str) -> Callable:
    if name not in _OPS:
        raise ValueError(f"{unknown_name('operation', name, _OPS)} Pipeline: {pipeline!r}.")
    factory, on = _OPS[name]
    parameters = inspect.signature(factory).parameters
    has_var_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    valid = [*parameters, *(_KEY_ARGUMENTS if on == "image" else ())]
    for argument in kwargs:
        if argument not in valid and not has_var_keyword:
            raise ValueError(
                f"{unknown_name(f'argument of {name}', argument, valid)} Pipeline: {pipeline!r}."
            )
    if on == "image":
        keys = {key: kwargs.pop(key) for key in _KEY_ARGUMENTS if key in kwargs}
        inkey = keys.get("inkey", keys.get("key", "image"))
        outkey = keys.get("outkey", keys.get("key", "image"))
    try:
        inspect.signature(factory).bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(
            f"{name}: {error}. Its signature is {name}{inspect.signature(factory)}; pipeline: "
            f"{pipeline!r}."
        ) from error
    function = factory(*args, **kwargs)
    takes_seed = "seed" in inspect.signature(function).parameters

    def step(example: Example, seed: tf.Tensor) -> Example:
        extra = {"seed": seed} if takes_seed else {}
        if on == "example":
            return function(example, **extra)
        if inkey not in example:
            raise ValueError(
                f"{unknown_name(f'key for {name}', inkey, example)} Pipeline: {pipeline!r}."
            )
        return {**example, outkey: function(example[inkey], **extra)}

    return step
