"""Mean-pooled sentence embeddings from the model directory that STRONGROOM_MODEL names; one line of JSON.

Run as a command inside an enclave, or outside on the plain files: the same script gives the reference.
"""

import json
import os

import torch
from transformers import AutoModel, AutoTokenizer

SENTENCES = ("A man is eating food.", "A man is eating a piece of bread.")


def main() -> None:
    """Embed the sentences and print the embeddings' exact bytes, and the cosine of the two."""
    folder = os.environ["STRONGROOM_MODEL"]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False  # no compiler at run time: inside there is none, outside must agree
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    inputs = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    embeddings = (hidden * mask).sum(1) / mask.sum(1)
    cosine = torch.nn.functional.cosine_similarity(embeddings[0], embeddings[1], dim=0)
    raw = [bytes(row.contiguous().view(torch.uint8).tolist()).hex() for row in embeddings]
    print(json.dumps({"sentences": SENTENCES, "cosine": round(float(cosine), 4), "embeddings": raw}))


if __name__ == "__main__":
    main()
