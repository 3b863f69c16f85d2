"""python -m labelwise.cli"""

from labelwise.cli import main

main()
