"""Tokenizers, on vocabularies trained or written on the spot."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from vit_keras.models.tokenizers import (
    SentencePieceTokenizer,
    WordPieceTokenizer,
    get_tokenizer,
)

CORPUS = [
    "a photo of a cat",
    "a photo of a dog on the beach",
    "two dogs and a cat in Zürich",
    "the quick brown fox jumps over the lazy dog",
    "a picture of an apple, and a robot on a sign",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
] * 8


@pytest.fixture(scope="module")
def vocab(tmp_path_factory):
    """A BERT vocabulary whose ids are easy to read off."""
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "##s", "cafe", ",", "cls", "[", "]"]
    path.write_text("\n".join([*pieces, "zurich"]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def sp_model(tmp_path_factory):
    """A SentencePiece model with T5's special tokens: pad 0, </s> 1, <unk> 2, no <s>."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="the extra `text` isn't installed")
    folder = tmp_path_factory.mktemp("sp")
    (folder / "corpus.txt").write_text("\n".join(CORPUS), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tiny"),
        vocab_size=90,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return folder / "tiny.model"


class TestWordPiece:
    @pytest.fixture(autouse=True)
    def _needs_tokenizers(self):
        pytest.importorskip("tokenizers", reason="the extra `text` isn't installed")

    def test_conventions_of_lit(self, vocab):
        tokens = get_tokenizer("wordpiece", vocab, 6)(["A photos", "", "a, A unknown photo café x"])
        assert tokens.dtype == np.int32
        assert tokens.tolist() == [
            [2, 4, 5, 6, 0, 0],  # [CLS] a photo ##s, then zeros and no [SEP]
            [2, 0, 0, 0, 0, 0],
            [2, 4, 8, 4, 1, 5],  # the end is cut off
        ]

    def test_accents_case_and_special_names(self, vocab):
        tokenizer = get_tokenizer("wordpiece", vocab, 8)
        assert tokenizer(["CAFÉ Zürich"]).tolist() == [[2, 7, 12, 0, 0, 0, 0, 0]]
        assert tokenizer(["[CLS]"]).tolist() == [[2, 10, 9, 11, 0, 0, 0, 0]]  # text, not a token
        kept = get_tokenizer("wordpiece", vocab, 4, lowercase=False)
        assert kept(["A a Zürich"]).tolist() == [[2, 1, 4, 1]]

    def test_windows_line_ends(self, vocab, tmp_path):
        path = tmp_path / "vocab.txt"
        path.write_bytes(vocab.read_bytes().replace(b"\n", b"\r\n"))
        assert get_tokenizer("wordpiece", path, 4)(["photo"]).tolist() == [[2, 5, 0, 0]]

    def test_trained_vocabulary(self, tmp_path):
        """The library's own trainer and full BERT pipeline agree on the pieces."""
        import tokenizers

        trained = tokenizers.BertWordPieceTokenizer(lowercase=True)
        trained.train_from_iterator(CORPUS, vocab_size=120, show_progress=False)
        trained.save_model(str(tmp_path))
        reference = tokenizers.BertWordPieceTokenizer(str(tmp_path / "vocab.txt"), lowercase=True)
        tokenizer = get_tokenizer("wordpiece", tmp_path / "vocab.txt", 32)
        assert tokenizer.vocab_size == reference.get_vocab_size()
        for text, row in zip(CORPUS[:7], tokenizer(CORPUS[:7]), strict=True):
            ids = reference.encode(text).ids[:-1]  # without [SEP]
            assert row[: len(ids)].tolist() == ids
            assert not row[len(ids) :].any()

    def test_wrong_vocabulary(self, tmp_path):
        path = tmp_path / "vocab.txt"
        path.write_text("[UNK]\na\n")
        with pytest.raises(ValueError, match=r"no \[CLS\]"):
            get_tokenizer("wordpiece", path, 8)


class TestSentencePiece:
    @pytest.mark.parametrize(
        ("eos", "expected"),
        [
            ("none", [[2, 0, 0], [2, 2, 0], [2, 2, 2]]),
            ("yes", [[2, 1, 0], [2, 2, 1], [2, 2, 2]]),
            ("sticky", [[2, 1, 0], [2, 2, 1], [2, 2, 1]]),
        ],
    )
    def test_end_of_sentence_rules(self, sp_model, eos, expected):
        """The table of big_vision's `tokenize`, "a" being any single piece."""
        tokenizer = get_tokenizer("sentencepiece", sp_model, 3, eos=eos, pad_id=0)
        piece = tokenizer._processor.encode("a")
        assert len(piece) == 1
        rows = tokenizer(["a", "a a", "a a a"])
        assert np.where(rows == piece[0], 2, rows).tolist() == expected

    def test_conventions_of_siglip(self, sp_model):
        tokenizer = get_tokenizer("sentencepiece", sp_model, 64, pad_id=1)
        rows = tokenizer(["A Photo of a CAT", "a photo of a cat"])
        assert rows.shape == (2, 64)
        assert rows.dtype == np.int32
        assert rows[0].tolist() == rows[1].tolist()
        ids = tokenizer._processor.encode("a photo of a cat")
        assert rows[0].tolist() == ids + [1] * (64 - len(ids))
        assert tokenizer._processor.decode(rows[0].tolist()) == "a photo of a cat"

    def test_long_text_ends_with_eos(self, sp_model):
        row = get_tokenizer("sentencepiece", sp_model, 5)([" ".join(CORPUS)])[0]
        assert row[-1] == 1
        assert 1 not in row[:-1]

    def test_default_padding_is_the_end_of_sentence(self, sp_model):
        assert get_tokenizer("sentencepiece", sp_model, 8)([""]).tolist() == [[1] * 8]

    def test_lowercase_is_of_ascii(self, sp_model):
        """As tf.strings.lower, which the originals' pipelines use."""
        lower = get_tokenizer("sentencepiece", sp_model, 32)
        kept = get_tokenizer("sentencepiece", sp_model, 32, lowercase=False)
        text = "A CAT IN ZÜRICH"
        assert lower([text]).tolist() == kept([tf.strings.lower(text).numpy()]).tolist()
        assert lower([text]).tolist() != kept([text.lower()]).tolist()
        assert kept([text]).tolist() != lower([text]).tolist()

    def test_missing_special_tokens(self, sp_model):
        with pytest.raises(ValueError, match=r"<s> is token -1"):
            get_tokenizer("sentencepiece", sp_model, 8, bos=True)
        with pytest.raises(ValueError, match="pad_id is token 100000"):
            get_tokenizer("sentencepiece", sp_model, 8, pad_id=100000)

    def test_bos(self, tmp_path):
        sentencepiece = pytest.importorskip("sentencepiece")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_prefix=str(tmp_path / "bos"),
            vocab_size=90,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        row = get_tokenizer("sentencepiece", tmp_path / "bos.model", 12, bos=True)(["a cat"])[0]
        assert row[0] == 1  # <s>
        assert row[-1] == 2  # </s>

    def test_not_a_model(self, vocab):
        pytest.importorskip("sentencepiece")
        with pytest.raises(ValueError, match="isn't a SentencePiece model"):
            get_tokenizer("sentencepiece", vocab, 8)

    def test_wrong_rule(self, sp_model):
        with pytest.raises(ValueError, match=r"eos is 'stiky'.*Did you mean 'sticky'"):
            get_tokenizer("sentencepiece", sp_model, 8, eos="stiky")

    def test_inside_tf_data(self, sp_model):
        tokenizer = get_tokenizer("sentencepiece", sp_model, 8)
        dataset = tf.data.Dataset.from_tensor_slices(["a cat", "a dog"]).batch(2)
        dataset = dataset.map(lambda text: tf.numpy_function(tokenizer, [text], tf.int32))
        assert next(iter(dataset)).numpy().tolist() == tokenizer(["a cat", "a dog"]).tolist()


def test_bad_arguments(vocab, tmp_path):
    with pytest.raises(ValueError, match=r"kind is 'sentence_piece'.*Did you mean 'sentencepiece'"):
        get_tokenizer("sentence_piece", vocab, 8)
    with pytest.raises(ValueError, match=r"option of wordpiece is 'lower'.*'lowercase'"):
        get_tokenizer("wordpiece", vocab, 8, lower=True)
    with pytest.raises(ValueError, match="max_length is 1"):
        get_tokenizer("wordpiece", vocab, 1)
    with pytest.raises(ValueError, match="no such file"):
        get_tokenizer("wordpiece", tmp_path / "none.txt", 8)


def test_texts_must_be_strings(vocab):
    pytest.importorskip("tokenizers")
    tokenizer = get_tokenizer("wordpiece", vocab, 8)
    with pytest.raises(ValueError, match="expected a list of strings"):
        tokenizer("a photo")
    with pytest.raises(ValueError, match="texts holds 3"):
        tokenizer(["a", 3])
    assert tokenizer([]).shape == (0, 8)


@pytest.mark.parametrize(
    ("library", "tokenizer"),
    [("tokenizers", WordPieceTokenizer), ("sentencepiece", SentencePieceTokenizer)],
)
def test_missing_library(vocab, monkeypatch, library, tokenizer):
    """None in sys.modules is how Python marks a module that must not be imported."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=rf"pip install 'vit-keras-tpu\[text\]'.*{library}"):
        tokenizer(vocab, 8)
