"""A script around timm: a linear probe, then all weights at a tenth of the rate."""

import csv
from pathlib import Path

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder

EPOCHS = 12


def accuracy(model, loader):
    model.eval()
    with torch.inference_mode():
        right = [(model(images).argmax(1) == labels).float() for images, labels in loader]
    return torch.cat(right).mean().item()


torch.manual_seed(0)
model = timm.create_model("tf_efficientnet_lite0", pretrained=True)
config = resolve_model_data_config(model)
model.classifier = torch.nn.Linear(model.num_features, 2)
plain = create_transform(**config)
augmented = create_transform(**config, is_training=True, scale=(0.5, 1.0))
learned, judged = ImageFolder("train", augmented), ImageFolder("train", plain)
order = torch.randperm(len(learned)).tolist()
cut = len(order) // 5
train = DataLoader(Subset(learned, order[cut:]), 32, shuffle=True, num_workers=2)
held_out = DataLoader(Subset(judged, order[:cut]), 32)

for phase, rate in (("head", 1e-3), ("all", 1e-4)):
    model.requires_grad_(phase == "all")
    model.classifier.requires_grad_(True)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(train))
    for epoch in range(EPOCHS):
        model.train(phase == "all")
        for images, labels in train:
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"{phase} {epoch}: held out {accuracy(model, held_out):.4f}", flush=True)

model.eval()
with torch.inference_mode(), Path("answers.csv").open("w", newline="") as stream:
    rows = csv.writer(stream)
    rows.writerow(["path", "label", "probability"])
    for path in sorted(Path("test").iterdir()):
        image = plain(Image.open(path).convert("RGB"))
        proba = model(image[None]).softmax(1)[0]
        rows.writerow([path, learned.classes[proba.argmax()], proba.max().item()])
