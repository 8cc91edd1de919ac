"""Print the ids of a text in every tokenizer folder as JSON: `python probe_ids.py TEXT_FILE FOLDER…`.

Run by a Python with transformers 4; only the standard library and transformers may be imported.
"""

import json
import sys
from pathlib import Path

import transformers
from transformers import AutoTokenizer

text = Path(sys.argv[1]).read_text(encoding="utf-8")
report = {}
for folder in sys.argv[2:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    report[folder] = {
        "class": type(tokenizer).__name__,
        "size": len(tokenizer),
        "ids": ids,
        "with_special": tokenizer(text)["input_ids"],
        "decoded": tokenizer.decode(ids),
        "chat": tokenizer.chat_template,
        "special": {k: str(v) for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)},
    }
print(json.dumps({"version": transformers.__version__, "folders": report}))
