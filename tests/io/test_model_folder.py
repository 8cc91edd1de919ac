"""A model folder says which of its tensors are the embeddings, or why that is unknown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lep.errors import CheckpointError
from lep.io.families import EmbeddingNames
from lep.io.model_folder import ModelFolder, check_embedding_rows, open_model, read_json, write_json

ROWS, WIDTH = 40, 8
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LAYER = "model.layers.0.mlp.up_proj.weight"
SHAPES = [(tied, shards) for tied in (True, False) for shards in (1, 3)]


def table(seed: int, rows: int = ROWS, width: int = WIDTH, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """`make(tensors, **config)`: a folder with these tensors and one layer's, an unknown family by default."""

    def make(tensors: dict[str, torch.Tensor], **config: Any) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        save_file({LAYER: table(9, 24), "norm.weight": torch.ones(WIDTH)} | tensors, folder / "model.safetensors")
        write_json(folder / "config.json", {"model_type": "new", "vocab_size": ROWS, "hidden_size": WIDTH} | config)
        return folder

    return make


@pytest.mark.parametrize(("tied", "shards"), SHAPES)
def test_embeddings_are_those_of_the_model(tokenizers, make_model, tmp_path, tied, shards) -> None:
    model = open_model(make_model(tmp_path, tokenizers["byte_level"], tied=tied, shards=shards, dtype="bfloat16"))
    stored = {name: tensor for file in tmp_path.glob("*.safetensors") for name, tensor in load_file(file).items()}
    assert model.tied is tied and model.duplicate_head_name is None and model.vocab_size == 500
    assert model.stored_embedding_names == {"embed": EMBED} | ({} if tied else {"head": HEAD})
    assert model.head_name == (EMBED if tied else HEAD)
    assert model.num_parameters == sum(tensor.numel() for tensor in stored.values())
    for key, name in model.stored_embedding_names.items():
        assert torch.equal(model.embedding_matrices()[key][:], stored[name])


def names_of(model: ModelFolder) -> tuple[str, str | None]:
    return model.embedding_names.embed, None if model.tied else model.embedding_names.head


@pytest.mark.parametrize("padding", [0, 24])
def test_embeddings_of_an_unknown_family_are_found_by_shape_and_name(make, padding) -> None:
    tables = {"transformer.wte.weight": table(1, ROWS + padding), "output.weight": table(2, ROWS + padding)}
    positions = {"wpe.weight": table(3, 16), "model.embed_positions.weight": table(4, 100, WIDTH + 1)}
    model = open_model(make(tables | positions))
    assert names_of(model) == tuple(tables)
    assert model.vocab_size == ROWS and len(model.embedding_matrices()["embed"]) == ROWS + padding


@pytest.mark.parametrize("key", ["text_config", "llm_config", "language_config"])
def test_a_vision_language_model_nests_the_configuration_of_its_text(make, key) -> None:
    tables = {"llm.model.embed_tokens.weight": table(1), "llm.lm_head.weight": table(2)}
    text = {"vocab_size": ROWS, "hidden_size": WIDTH}
    vision = {"vision.embeddings.position_embedding.weight": table(3, 50, 12)}
    model = open_model(make(tables | vision, vocab_size=99, hidden_size=12, **{key: text}))
    assert names_of(model) == tuple(tables) and model.text_config == text and model.vocab_size == ROWS


def test_a_known_family_with_other_names_is_searched_too(make) -> None:
    model = open_model(make({"embed_tokens.weight": table(1)}, model_type="llama", tie_word_embeddings=True))
    assert names_of(model) == ("embed_tokens.weight", None)


def test_ambiguous_embeddings_are_an_error_that_lists_matrices(make) -> None:
    tables = {"a.embed.weight": table(1), "b.embed.weight": table(2), "lm_head.weight": table(3)}
    folder = make(tables, vocab_size=30)
    message = (
        r"model: cannot identify the embeddings of model_type 'new': expected, of 30 rows or more and 8 columns, .*"
        r"there are a.embed.weight 40 × 8, b.embed.weight 40 × 8, lm_head.weight 40 × 8, .*`embedding_names: "
    )
    with pytest.raises(CheckpointError, match=message):
        open_model(folder)


@pytest.mark.parametrize(
    ("tables", "config"),
    [
        ({}, {}),
        ({"shared.weight": table(1)}, {}),
        ({"wte.weight": table(1), "classifier.weight": table(2)}, {}),
        ({"wte.weight": table(1)}, {"tie_word_embeddings": False}),
        ({"wte.weight": table(1, ROWS - 1)}, {}),
        ({"wte.weight": table(1)}, {"hidden_size": WIDTH + 1}),
    ],
)
def test_no_embedding_or_no_head_is_the_same_error(make, tables, config) -> None:
    with pytest.raises(CheckpointError, match=f"cannot identify the embeddings .*there are .*{LAYER} 24 × 8"):
        open_model(make(tables, **config))


def test_given_names_take_precedence(make) -> None:
    folder = make({EMBED: table(1), "odd": table(2), "strange": table(3)}, model_type="llama", tie_word_embeddings=True)
    assert names_of(open_model(folder)) == (EMBED, None)
    given = EmbeddingNames(embed="odd", head="strange")
    write_json(folder / "config.json", {"model_type": "new", "vocab_size": ROWS})
    save_file({"odd": table(2), "strange": table(3)}, folder / "model.safetensors")
    assert names_of(open_model(folder, embedding_names=given)) == ("odd", "strange")
    assert names_of(open_model(folder, embedding_names=EmbeddingNames("odd", "odd"))) == ("odd", None)
    with pytest.raises(
        CheckpointError, match=r"no matrix 'lm_head', which .*`embedding_names` gives; there are odd 40 × 8"
    ):
        open_model(folder, embedding_names=EmbeddingNames("odd", "lm_head"))


@pytest.mark.parametrize(
    ("family", "config", "head", "tied"),
    [
        # what the configuration says, or its family's default; no head, the same head, another one
        ("llama", {"tie_word_embeddings": True}, None, True),
        ("llama", {"tie_word_embeddings": True}, table(1), True),
        ("llama", {"tie_word_embeddings": False}, table(1), False),
        ("llama", {"tie_word_embeddings": False}, table(2), False),
        ("llama", {}, table(1), False),
        ("llama", {}, table(2), False),
        ("gemma", {}, None, True),
        ("gemma", {}, table(1), True),
        ("gemma", {}, table(2), False),
        ("gemma", {}, table(1, dtype=torch.float16), False),
        ("new", {}, None, True),
        ("new", {}, table(1), False),
        ("new", {"tie_word_embeddings": True}, table(1), True),
        # nested: the outer one is followed, as transformers does; saved by transformers 4, the inner one may be alone
        ("new", {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}}, table(1), False),
        ("new", {"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}}, table(1), True),
        ("qwen2_vl", {"text_config": {"tie_word_embeddings": True}}, None, True),
        ("qwen2_vl", {"tie_word_embeddings": False, "text_config": {"tie_word_embeddings": True}}, None, True),
    ],
)
def test_embeddings_are_tied_as_in_transformers(make, family, config, head, tied) -> None:
    folder = make({EMBED: table(1)} | ({} if head is None else {HEAD: head}), model_type=family, **config)
    model = open_model(folder)
    assert model.tied is tied and set(model.embedding_matrices()) == ({"embed"} if tied else {"embed", "head"})
    assert model.duplicate_head_name == (HEAD if tied and head is not None else None)
    assert model.num_parameters == ROWS * WIDTH * (1 if tied else 2) + 25 * WIDTH


@pytest.mark.parametrize(
    ("family", "config", "tables", "message"),
    [
        ("llama", {}, {EMBED: table(1)}, "untied embeddings, but there is no 'lm_head.weight'; .*tie_word_embeddings"),
        (
            "gemma",
            {"tie_word_embeddings": False},
            {EMBED: table(1)},
            "untied embeddings, but there is no 'lm_head.weight'",
        ),
        (
            "gemma",
            {"tie_word_embeddings": True},
            {EMBED: table(1), HEAD: table(2)},
            "tied embeddings, but 'lm_head.weight' is not equal to 'model.embed_tokens.weight'; .*to false, or remove",
        ),
        ("llama", {}, {EMBED: table(1, 48), HEAD: table(2)}, r"48 × 8\), .*40 × 8\): expected matrices of one shape"),
    ],
)
def test_embeddings_that_contradict_the_configuration_are_errors(make, family, config, tables, message) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_model(make(tables, model_type=family, **config))


def test_large_embeddings_are_compared_to_the_end(make) -> None:
    """The comparison is made in blocks: a difference in the last byte counts."""
    embed = table(1, 70_000, 64)
    for change in (0.0, 1.0):
        head = embed.clone()
        head[-1, -1] += change
        folder = make({EMBED: embed, HEAD: head}, model_type="gemma", vocab_size=70_000, hidden_size=64)
        assert open_model(folder).tied is (change == 0.0)
        folder.rename(folder.with_name(f"model-{change}"))


INTS = torch.zeros(ROWS, WIDTH // 2, dtype=torch.int8)


@pytest.mark.parametrize("config", [{"model_type": "llama"}, {"model_type": "llama", "tie_word_embeddings": True}])
@pytest.mark.parametrize(
    ("parts", "whole", "dtype"),
    [
        ({EMBED: INTS, HEAD: table(2)}, EMBED, "I8"),
        ({EMBED: table(1).to(torch.float8_e4m3fn), HEAD: table(2)}, EMBED, "F8_E4M3"),
        (
            {"model.embed_tokens.qweight": INTS.int(), "model.embed_tokens.scales": table(1), HEAD: table(2)},
            EMBED,
            "I32",
        ),
        ({EMBED: table(1), "lm_head.qweight": INTS.int(), "lm_head.scales": table(2)}, HEAD, "I32"),
        ({EMBED: table(1), "lm_head.weight_packed": INTS.int(), "lm_head.weight_scale": table(2)}, HEAD, "I32"),
    ],
)
def test_a_quantized_embedding_is_refused(make, parts, whole, dtype, config) -> None:
    message = (
        f"model.safetensors: tensor '.*' is stored as {dtype}, expected '{whole}' .*use the unquantized checkpoint"
    )
    with pytest.raises(CheckpointError, match=message):
        open_model(make(parts, **config))


def test_a_quantized_head_is_refused(make) -> None:
    with pytest.raises(CheckpointError, match=r"tensor 'lm_head.weight' is stored as U8, expected 'lm_head.weight' as"):
        open_model(make({EMBED: table(1), HEAD: INTS.view(torch.uint8)[:, :WIDTH]}, model_type="llama"))


def test_float_embeddings_among_quantized_layers_are_accepted(make) -> None:
    layer = {"model.layers.0.q_proj.qweight": INTS.int(), "model.layers.0.q_proj.scales": table(3)}
    folder = make({EMBED: table(1), HEAD: table(2)} | layer, model_type="llama", quantization_config={"bits": 4})
    assert set(open_model(folder).embedding_matrices()) == {"embed", "head"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_embeddings_of_any_float_dtype_are_read(make, dtype) -> None:
    assert open_model(make({EMBED: table(1, dtype=dtype)})).embedding_matrices()["embed"].dtype == dtype


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.layers.61.embed_tokens.weight", (ROWS, WIDTH)),
        ("model.layers.61.shared_head.head.weight", (ROWS, WIDTH)),
        ("lm_head.bias", (ROWS,)),
        ("model.embed_tokens_per_layer.weight", (ROWS - 3, 2 * WIDTH)),
        ("language_model.medusa_head.0.1.weight", (ROWS + 2, WIDTH)),
    ],
)
def test_a_third_tensor_with_a_row_for_each_token_is_refused(make, name, shape) -> None:
    """DeepSeek's next-token layers, Phi's bias, Gemma 3n's embeddings of each layer: growing two would break them."""
    tables = {EMBED: table(1, ROWS + 2), HEAD: table(2, ROWS + 2), name: torch.zeros(shape)}
    message = rf"model.safetensors: '{name}' \({' × '.join(map(str, shape))}\) has vocabulary rows too, and lep .*drop"
    with pytest.raises(CheckpointError, match=message):
        open_model(make(tables, model_type="deepseek_v3", vocab_size_per_layer_input=ROWS - 3))


def test_layers_with_vocab_size_rows_are_no_embeddings(make) -> None:
    layers = {f"model.layers.0.{name}.weight": table(5, ROWS) for name in ("mlp.gate_up_proj", "self_attn.q_proj")}
    assert (
        names_of(open_model(make({EMBED: table(1)} | layers, tie_word_embeddings=True, model_type="llama")))[0] == EMBED
    )


def test_only_headers_are_read(make, monkeypatch) -> None:
    folder = make({EMBED: table(1), HEAD: table(2)}, model_type="llama")
    header = 8 + int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")
    size = (folder / "model.safetensors").stat().st_size
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(header)
        file.truncate(size)  # the weights are a hole now
    assert names_of(open_model(folder)) == (EMBED, HEAD)


def test_a_path_without_a_model_is_named(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"config.json: is not there"):
        open_model(tmp_path)
    for text, message in {"{": "not JSON", "[]": "expected a JSON object"}.items():
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            open_model(tmp_path)


def test_a_gguf_file_is_refused(tmp_path) -> None:
    file = tmp_path / "model.Q4_K_M.gguf"
    file.write_bytes(b"GGUF")
    for path in (tmp_path, file):
        with pytest.raises(CheckpointError, match=r"Q4_K_M\.gguf: a GGUF file, .*use the folder with .*safetensors"):
            open_model(path)


def test_a_gguf_file_next_to_safetensors_is_ignored(make) -> None:
    folder = make({EMBED: table(1)})
    (folder / "model.gguf").write_bytes(b"GGUF")
    assert open_model(folder).tied


def test_an_embedding_must_have_a_row_for_each_token(make) -> None:
    model = open_model(make({EMBED: table(1), HEAD: table(2)}, model_type="llama"))
    check_embedding_rows(model, vocabulary_size=ROWS)
    with pytest.raises(CheckpointError, match=r"embed has 40 rows for 41 tokens; is that its own tokenizer\?"):
        check_embedding_rows(model, vocabulary_size=ROWS + 1)


def test_json_is_written_as_it_is_read(tmp_path) -> None:
    value = {"model_type": "llama", "слово": [1, None, True]}
    write_json(tmp_path / "config.json", value)
    assert read_json(tmp_path / "config.json") == value == json.loads((tmp_path / "config.json").read_bytes())
