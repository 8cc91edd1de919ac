"""Questions with one-token answers: the benchmark's model beside the harness's own class, which computes all logits.

Each side is a process of its own and answers the same questions: prompts of 1,024 tokens, four options, batches of 8.
Weights are random: a Llama of 4 layers with the vocabulary that the paper extends LLaMa-3's to, in bfloat16. Seconds
are of the processor, memory is the most that the process ever held, libraries included.

python benchmarks/last_logits.py [QUESTIONS]     (default 8; the harness's side takes 15 GB)
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

SIDES = ("harness", "ours")
LENGTH, BATCH, VOCABULARY = 1024, 8, 174_816


def answer(side: str, questions: int) -> dict[str, Any]:
    """Seconds, GB, and the sum of the log-probabilities found."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from lep.evaluation.darumeru.last_logits import LastLogits

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=4,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    model: Any = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), eos_token="<end>")
    kind: Any = LastLogits if side == "ours" else HFLM
    asked = kind(pretrained=model, tokenizer=tokenizer, batch_size=BATCH, softmax_dtype="float32")
    prompts = torch.randint(4, VOCABULARY, (questions, LENGTH)).tolist()
    requests = [((str(i), str(option)), prompt, [option]) for i, prompt in enumerate(prompts) for option in range(4)]
    started = time.process_time()
    found = asked._loglikelihood_tokens(requests, disable_tqdm=True)
    return {
        "seconds": time.process_time() - started,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "sum": sum(value for value, _ in found),
    }


def main() -> None:
    """Print a table."""
    if sys.argv[1:2] == ["--side"]:
        print(json.dumps(answer(sys.argv[2], int(sys.argv[3]))))
        return
    questions = sys.argv[1] if sys.argv[1:] else "8"
    found = {}
    for side in SIDES:
        ran = subprocess.run(
            [sys.executable, __file__, "--side", side, questions], stdout=subprocess.PIPE, text=True, check=True
        )
        found[side] = json.loads(ran.stdout.splitlines()[-1])
    print(f"{'':8} {'seconds':>8} {'GB':>6} {'log-probabilities':>18}")
    for side, row in found.items():
        print(f"{side:8} {row['seconds']:8.1f} {row['memory']:6.2f} {row['sum']:18.3f}")
    ratios = [found["ours"][key] / found["harness"][key] for key in ("seconds", "memory")]
    print(f"{'ratio':8} {ratios[0]:8.2f} {ratios[1]:6.2f}")


if __name__ == "__main__":
    main()
