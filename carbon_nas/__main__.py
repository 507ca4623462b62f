"""`python -m carbon_nas` is `carbon-nas`."""

from carbon_nas.cli import main

if __name__ == "__main__":
    main()
