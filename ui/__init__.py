"""The screen: Gradio Blocks with thin handlers over the services. No learning, no database."""
