"""Keras, as its guide teaches it (keras.io/guides/transfer_learning)."""

import csv
from pathlib import Path

import keras
import numpy as np
from keras import layers

EPOCHS = 10

train, held_out = keras.utils.image_dataset_from_directory(
    "train", image_size=(224, 224), validation_split=0.2, subset="both", seed=1337
)
names = train.class_names
augment = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
train = train.map(lambda images, labels: (augment(images, training=True), labels))
train, held_out = train.prefetch(2), held_out.cache()

base = keras.models.load_model("efficientnet-lite0.keras")
base.trainable = False
inputs = keras.Input((224, 224, 3))
x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
x = base(x, training=False)
x = layers.GlobalAveragePooling2D()(x)
x = layers.Dropout(0.2)(x)
model = keras.Model(inputs, layers.Dense(1)(x))

loss = keras.losses.BinaryCrossentropy(from_logits=True)
metric = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0)
model.compile(optimizer=keras.optimizers.Adam(), loss=loss, metrics=[metric])
model.fit(train, epochs=2 * EPOCHS, validation_data=held_out, verbose=2)
base.trainable = True
for layer in base.layers:  # batch norm stays in inference mode, whatever the call says
    layer.trainable = not isinstance(layer, layers.BatchNormalization)
model.compile(optimizer=keras.optimizers.Adam(1e-5), loss=loss, metrics=[metric])
model.fit(train, epochs=EPOCHS, validation_data=held_out, verbose=2)

test = keras.utils.image_dataset_from_directory(
    "test", labels=None, image_size=(224, 224), shuffle=False
)
second = keras.ops.sigmoid(model.predict(test, verbose=0)[:, 0])
with Path("answers.csv").open("w", newline="") as stream:
    rows = csv.writer(stream)
    rows.writerow(["path", "label", "probability"])
    for path, p in zip(test.file_paths, np.asarray(second), strict=True):
        rows.writerow([path, names[int(p > 0.5)], max(p, 1 - p)])
