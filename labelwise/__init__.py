"""From a folder of images, few of them labeled, to the best classifier those labels can buy."""

__version__ = "0.1.0"
