"""Compare `LastLogitsHFLM` with the class of lm-evaluation-harness, which computes all logits: time and memory.

Each class runs in a process of its own on the same questions: prompts of 1,024 tokens, four options of one token,
batches of 8. The model is a random Llama of 4 layers in bfloat16, with the vocabulary that the paper extends LLaMa-3's
to. Seconds are CPU time. Memory is the peak of the process, libraries included.

python benchmarks/last_logits.py [QUESTIONS]     (default 8; the harness needs 15 GB)
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

CLASSES = ("HFLM", "LastLogitsHFLM")
LENGTH, BATCH_SIZE, VOCAB_SIZE = 1024, 8, 174_816


def measure(class_name: str, num_questions: int) -> dict[str, Any]:
    """Return seconds, GB, and the sum of the log-probabilities."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from lep.evaluation.darumeru.last_logits import LastLogitsHFLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=4,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    model: Any = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()), eos_token="<end>")
    lm_class: Any = LastLogitsHFLM if class_name == "LastLogitsHFLM" else HFLM
    lm = lm_class(pretrained=model, tokenizer=tokenizer, batch_size=BATCH_SIZE, softmax_dtype="float32")
    prompts = torch.randint(4, VOCAB_SIZE, (num_questions, LENGTH)).tolist()
    requests = [((str(i), str(option)), prompt, [option]) for i, prompt in enumerate(prompts) for option in range(4)]
    start = time.process_time()
    results = lm._loglikelihood_tokens(requests, disable_tqdm=True)
    return {
        "seconds": time.process_time() - start,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "sum": sum(value for value, _ in results),
    }


def main() -> None:
    """Print a table."""
    if sys.argv[1:2] == ["--class"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
        return
    num_questions = sys.argv[1] if sys.argv[1:] else "8"
    rows = {}
    for name in CLASSES:
        process = subprocess.run(
            [sys.executable, __file__, "--class", name, num_questions], stdout=subprocess.PIPE, text=True, check=True
        )
        rows[name] = json.loads(process.stdout.splitlines()[-1])
    print(f"{'':14} {'seconds':>8} {'GB':>6} {'log-probabilities':>18}")
    for name, row in rows.items():
        print(f"{name:14} {row['seconds']:8.1f} {row['memory']:6.2f} {row['sum']:18.3f}")
    ratios = [rows["LastLogitsHFLM"][key] / rows["HFLM"][key] for key in ("seconds", "memory")]
    print(f"{'ratio':14} {ratios[0]:8.2f} {ratios[1]:6.2f}")


if __name__ == "__main__":
    main()
