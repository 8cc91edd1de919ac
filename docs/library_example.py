# %% [markdown]
# # Propagate a new vocabulary, in Python
# Everything is tiny and made here: no downloads, seconds on a CPU. With real models, only the first cells change.

# %% Two texts and a tokenizer that was trained on English alone
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import lep

english = [
    f"The {name} has {verb} letter {n}." for name in ("girl", "king") for verb in ("read", "sent") for n in range(9)
]
russian = [
    f"{name} {verb} письмо {n}." for name in ("Оля", "Королева") for verb in ("читает", "шлёт") for n in range(9)
]

bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False)
bpe.train_from_iterator(english, trainer)
old_tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>")


# %% A base model, and an instruct model that differs from it by a linear change of its embeddings
def make_model(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(old_tokenizer), eos_token_id=0, bos_token_id=0, **sizes))


base, instruct = make_model(0), make_model(0)
change = torch.eye(16) + 0.1 * torch.randn(16, 16)
with torch.no_grad():
    for embeddings in (instruct.get_input_embeddings(), instruct.get_output_embeddings()):
        embeddings.weight.copy_(embeddings.weight @ change)

# %% Extend the tokenizer with tokens for Russian: old texts keep their ids
new_tokenizer = lep.extend_tokenizer(old_tokenizer, russian, new_tokens=40)
assert new_tokenizer(english[0])["input_ids"] == old_tokenizer(english[0])["input_ids"]
before, after = (len(tokenizer(russian[0])["input_ids"]) for tokenizer in (old_tokenizer, new_tokenizer))
print(f"{russian[0]!r}: {before} → {after} tokens")

# %% Initialize, train (here: pretend to), and propagate
with TemporaryDirectory() as folder:
    adapted, propagated = Path(folder) / "adapted", Path(folder) / "propagated"
    result = lep.initialize_model((base, old_tokenizer), new_tokenizer, adapted)
    print(f"initialized: {result.copied_rows} rows copied, {result.composed_rows} averaged")

    trained = LlamaForCausalLM.from_pretrained(adapted)  # train its embeddings here
    models_of_one_base = (base, old_tokenizer), (trained, new_tokenizer), (instruct, old_tokenizer)
    propagation = lep.propagate_model(*models_of_one_base, propagated, method="conversion")
    for name, fit in propagation.fits.items():
        print(f"propagated: {name}, {fit.rows} rows, held-out error {fit.residual_heldout:.1e}")

    # %% How well does each model predict Russian? Bits per byte can be compared between vocabularies
    for name, model in (("instruct", (instruct, old_tokenizer)), ("propagated", propagated)):
        evaluation = lep.evaluate_texts(model, {"ru": russian}, dtype="float32")
        bits, characters = evaluation.bits_per_byte["ru"], evaluation.characters_per_token["ru"]
        print(f"{name}: {bits:.2f} bits per byte, {characters:.2f} characters per token")

# %% [markdown]
# The same, one level below: fit P on tensors, and apply it to whatever you train.

# %%
vocabulary = lep.Vocabulary([b"a", b"b", b"c"], [lep.TokenKind.NORMAL] * 3)
mapping = lep.build_vocabulary_map(old=vocabulary, new=vocabulary, segment=lambda token: [])
rows = torch.randn(3, 2)
projection = lep.fit_projection(rows, 2 * rows, mapping, method="conversion")
doubled = torch.empty(3, 2)
lep.propagate_embeddings(rows, projection, out=doubled)
assert torch.allclose(doubled, 2 * rows, atol=1e-5)
