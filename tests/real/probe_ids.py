"""Prints, as JSON, the ids of a text by every tokenizer folder given: `python probe_ids.py TEXT_FILE FOLDER…`.

Run by another interpreter, with transformers 4: only the standard library and transformers may be imported.
"""

import json
import sys
from pathlib import Path

import transformers
from transformers import AutoTokenizer

text = Path(sys.argv[1]).read_text(encoding="utf-8")
found = {}
for folder in sys.argv[2:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    found[folder] = {
        "class": type(tokenizer).__name__,
        "size": len(tokenizer),
        "ids": ids,
        "with_special": tokenizer(text)["input_ids"],
        "decoded": tokenizer.decode(ids),
        "chat": tokenizer.chat_template,
        "special": {k: str(v) for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)},
    }
print(json.dumps({"version": transformers.__version__, "folders": found}))
