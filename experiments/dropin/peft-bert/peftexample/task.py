"""Model and data: a small BERT, of which LoRA's matrices and the head are trained.

The model is made here, so that nothing is downloaded; the sentences are made up: one is
of the class whose word it holds more often.
"""

import numpy as np
import torch
from peft import (
    LoraConfig,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from transformers import BertConfig, BertForSequenceClassification

LENGTH, WORDS = 16, 100


def _sentences(seed, count):
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=count)
    x = rng.integers(10, WORDS, size=(count, LENGTH))
    for row, label in zip(x, y, strict=True):
        row[rng.choice(LENGTH, 5, replace=False)] = 2 + label
    return x, y


def load_data(node, nodes):
    """Return the sentences and labels of a node."""
    return _sentences([1, node], 200)


def test_data():
    """Return sentences that no node has."""
    return _sentences([2, 0], 300)


def new_model(seed):
    """Return a new model with LoRA around its attention."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    lora = LoraConfig(
        task_type="SEQ_CLS", r=16, lora_alpha=32, target_modules=["query", "value"]
    )
    return get_peft_model(BertForSequenceClassification(config), lora)


def get_arrays(model):
    """Return what is trained."""
    return get_peft_model_state_dict(model)


def set_arrays(model, arrays):
    """Put it into the model."""
    set_peft_model_state_dict(model, arrays.to_torch_state_dict())


def train(model, data, steps, seed):
    """Take steps with minibatches of 32; return the last one's loss."""
    torch.manual_seed(seed)
    model.train()
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.3
    )
    x, y = torch.tensor(data[0]), torch.tensor(data[1])
    loss = torch.zeros(())
    for _ in range(steps):
        chosen = torch.randperm(len(y))[:32]
        optimizer.zero_grad()
        loss = model(input_ids=x[chosen], labels=y[chosen]).loss
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test(model, data):
    """Return loss and accuracy."""
    model.eval()
    y = torch.tensor(data[1])
    with torch.no_grad():
        out = model(input_ids=torch.tensor(data[0]), labels=y)
    accuracy = (out.logits.argmax(dim=1) == y).float().mean()
    return float(out.loss), float(accuracy)
