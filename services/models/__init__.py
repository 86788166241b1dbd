"""Which base models this instance knows, and switching between them."""
