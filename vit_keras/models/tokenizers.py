"""Tokenizers of the text towers: WordPiece for BERT towers, SentencePiece for the others.

Both are thin rules (what goes in front, at the end, and after) around a library each, Hugging
Face's `tokenizers` and Google's `sentencepiece`, which the extra `text` installs. Vocabulary files
of the published models: `vit_keras.catalog.fetch_vocabulary`.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterable
from types import ModuleType

import numpy as np

from vit_keras.names import unknown_name

_EOS_RULES = ("sticky", "yes", "none")
# bytes.lower changes ASCII alone, as tf.strings.lower does in the originals' pipelines.
_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Text towers need the library {name!r}: pip install 'vit-keras-tpu[text]' "
            f"(or pip install {name})."
        ) from error


class _Tokenizer:
    """What the tokenizers share: `tokenizer(texts)` pads what `encode` makes of each text."""

    def __init__(self, vocab_path: str | os.PathLike, max_length: int, pad_id: int | None):
        if not isinstance(max_length, int) or max_length < 2:
            raise ValueError(f"max_length is {max_length!r}; expected an int of at least 2.")
        if not os.path.isfile(vocab_path):
            raise ValueError(f"vocab_path is {os.fspath(vocab_path)!r}; there is no such file.")
        self.vocab_path = os.fspath(vocab_path)
        self.max_length = max_length
        self.pad_id = pad_id

    def encode(self, text: str) -> list[int]:
        """The token ids of one text, at most `max_length`, without padding."""
        raise NotImplementedError

    def __call__(self, texts: Iterable[str | bytes]) -> np.ndarray:
        """Tokenizes texts.

        Args:
          texts: a list, tuple or array of n strings (bytes are taken as UTF-8, so that this can be
            called by `tf.numpy_function`).

        Returns:
          int32 (n, max_length).

        Raises:
          ValueError: when `texts` is one string, or holds something else than strings.
        """
        if isinstance(texts, str | bytes):
            raise ValueError(f"texts is the string {texts!r}; expected a list of strings.")
        texts = list(texts)
        tokens = np.full((len(texts), self.max_length), self.pad_id, np.int32)
        for row, text in zip(tokens, texts, strict=True):
            if isinstance(text, bytes):
                text = text.decode("utf-8")
            if not isinstance(text, str):
                raise ValueError(f"texts holds {text!r}; expected strings.")
            ids = self.encode(text)
            row[: len(ids)] = ids
        return tokens


class WordPieceTokenizer(_Tokenizer):
    """BERT's WordPiece, as LiT's BERT towers take it: [CLS], the pieces, zeros.

    There is no [SEP], and padding is 0 whatever the vocabulary calls [PAD], because the tower masks
    the zeros (`BertTokenizer` in vision_transformer, `bert_tokenize` in big_vision). "[CLS]" inside
    a text is text. Compared with TensorFlow Text, which the originals use, only rare characters
    differ: those whose case folding isn't their lower case, such as "ß".
    """

    def __init__(self, vocab_path: str | os.PathLike, max_length: int, lowercase: bool = True):
        """Reads a BERT `vocab.txt`: one piece a line, its id the line's number from 0.

        Args:
          vocab_path: the file.
          max_length: length of the rows; longer texts lose their end.
          lowercase: lower the case and strip accents, as the "uncased" vocabularies need.

        Raises:
          ValueError: when there is no such file, or it isn't such a vocabulary.
          ImportError: when `tokenizers` isn't installed.
        """
        super().__init__(vocab_path, max_length, pad_id=0)
        library = _library("tokenizers")
        with open(vocab_path, encoding="utf-8") as file:
            pieces = file.read().split("\n")
        vocabulary = {piece.rstrip("\r"): id_ for id_, piece in enumerate(pieces) if piece.strip()}
        for special in ("[CLS]", "[UNK]"):
            if special not in vocabulary:
                raise ValueError(
                    f"vocab_path is {self.vocab_path!r}, which has no {special}; expected a BERT "
                    "vocab.txt."
                )
        self.cls_id = vocabulary["[CLS]"]
        self.vocab_size = max(vocabulary.values()) + 1
        self._tokenizer = library.Tokenizer(
            library.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
        )
        self._tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=lowercase)
        self._tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()

    def encode(self, text: str) -> list[int]:
        """[CLS] and the pieces of `text`, at most `max_length` ids."""
        return [self.cls_id, *self._tokenizer.encode(text).ids][: self.max_length]


class SentencePieceTokenizer(_Tokenizer):
    """SentencePiece with the end-of-sentence rules of big_vision's `tokenize`.

    With max_length=3, id("</s>")=1, id("a")=2 and pad_id=0:

    | eos      | "a"       | "aa"      | "aaa"     |
    | "none"   | [2, 0, 0] | [2, 2, 0] | [2, 2, 2] |
    | "yes"    | [2, 1, 0] | [2, 2, 1] | [2, 2, 2] |
    | "sticky" | [2, 1, 0] | [2, 2, 1] | [2, 2, 1] |

    SigLIP uses eos="sticky", pad_id=1 (which is </s>) and lower case; LiT's small text towers use
    eos="sticky", padding with </s>, and keep the case.
    """

    def __init__(
        self,
        vocab_path: str | os.PathLike,
        max_length: int,
        lowercase: bool = True,
        eos: str = "sticky",
        bos: bool = False,
        pad_id: int | None = None,
    ):
        """Reads a `sentencepiece.model`.

        Args:
          vocab_path: the file.
          max_length: length of the rows; longer texts lose their end.
          lowercase: lower the case of A to Z first, and of no other letter (as the originals).
          eos: "none": no </s>; "yes": </s> after the text, lost when the text is too long;
            "sticky": kept then too, as the last token.
          bos: whether to put <s> in front.
          pad_id: what fills the rows; None for the id of </s>.

        Raises:
          ValueError: when there is no such file, it isn't a SentencePiece model, `eos` is none of
            the three, or the model has no such special token or id.
          ImportError: when `sentencepiece` isn't installed.
        """
        super().__init__(vocab_path, max_length, pad_id)
        if eos not in _EOS_RULES:
            raise unknown_name("eos", eos, _EOS_RULES)
        library = _library("sentencepiece")
        try:
            self._processor = library.SentencePieceProcessor(model_file=self.vocab_path)
        except (RuntimeError, OSError) as error:
            raise ValueError(
                f"vocab_path is {self.vocab_path!r}, which isn't a SentencePiece model: {error}"
            ) from error
        self.lowercase, self.eos, self.bos = lowercase, eos, bos
        self.vocab_size = self._processor.vocab_size()
        self.eos_id, self.bos_id = self._processor.eos_id(), self._processor.bos_id()
        if self.pad_id is None:
            self.pad_id = self.eos_id
        for name, id_ in (
            ("pad_id", self.pad_id),
            ("</s>", self.eos_id if eos != "none" else 0),
            ("<s>", self.bos_id if bos else 0),
        ):
            if not 0 <= id_ < self.vocab_size:  # -1 where the model was trained without it
                raise ValueError(
                    f"{name} is token {id_} of {self.vocab_path!r}; expected 0 to "
                    f"{self.vocab_size - 1}."
                )

    def encode(self, text: str) -> list[int]:
        """The pieces of `text` with the special tokens asked for, at most `max_length` ids."""
        if self.lowercase:
            text = text.translate(_ASCII_LOWER)
        ids = self._processor.encode(text, add_bos=self.bos, add_eos=self.eos != "none")
        if len(ids) > self.max_length:
            last = ids[-1]
            ids = ids[: self.max_length]
            if self.eos == "sticky":
                ids[-1] = last
        return ids


_KINDS = {
    "wordpiece": WordPieceTokenizer,
    "sentencepiece": SentencePieceTokenizer,
}


def get_tokenizer(
    kind: str, vocab_path: str | os.PathLike, max_length: int, **options
) -> WordPieceTokenizer | SentencePieceTokenizer:
    """The tokenizer of a text tower: a callable from n strings to int32 (n, max_length).

    Args:
      kind: "wordpiece" (BERT towers) or "sentencepiece".
      vocab_path: `vocab.txt` or `sentencepiece.model`; see `vit_keras.catalog.fetch_vocabulary`.
      max_length: tokens a text: 16 for LiT, 64 for most SigLIP models.
      **options: of `WordPieceTokenizer` or `SentencePieceTokenizer`. What a published checkpoint
        needs is its `tokenizer` in `vit_keras.catalog`.

    Raises:
      ValueError: for an unknown kind or option, or a file that isn't such a vocabulary.
      ImportError: when the extra `text` isn't installed, saying how to.
    """
    if kind not in _KINDS:
        raise unknown_name("kind", kind, _KINDS)
    known = list(inspect.signature(_KINDS[kind]).parameters)[2:]  # after path and length
    for name in options:
        if name not in known:
            raise unknown_name(f"option of {kind}", name, known)
    return _KINDS[kind](vocab_path, max_length, **options)
