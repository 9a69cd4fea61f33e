"""The tour: notebooks run through the front door of a fresh workbench, as a person would."""
