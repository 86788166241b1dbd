"""What the page does because of how Gradio 6.31 behaves. Each file names the behaviour that it works around."""
