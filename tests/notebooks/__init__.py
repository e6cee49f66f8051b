"""The notebooks: `make notebooks` runs them, this keeps what they show."""
