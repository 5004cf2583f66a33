"""`python -m vlmrecipes`."""

from vlmrecipes.cli import main

if __name__ == "__main__":
    main()
