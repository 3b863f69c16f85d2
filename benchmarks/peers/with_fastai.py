"""fastai, as its course teaches it (Practical Deep Learning for Coders, chapter 2)."""

# ruff: noqa: F403, F405
from fastai.vision.all import *

EPOCHS = 4

photos = DataBlock(
    blocks=(ImageBlock, CategoryBlock),
    get_items=get_image_files,
    splitter=RandomSplitter(valid_pct=0.2, seed=42),
    get_y=parent_label,
    item_tfms=RandomResizedCrop(224, min_scale=0.5),
    batch_tfms=aug_transforms(),
)
dls = photos.dataloaders(Path("train"), bs=32)
learn = vision_learner(dls, "tf_efficientnet_lite0", metrics=accuracy)
learn.fine_tune(EPOCHS)

files = get_image_files("test")
proba, _ = learn.get_preds(dl=dls.test_dl(files))
top = proba.max(dim=1)
labels = [dls.vocab[i] for i in top.indices]
answers = pd.DataFrame({"path": files, "label": labels, "probability": top.values})
answers.to_csv("answers.csv", index=False)
