"""The script Streamlit runs for every visitor and click; all it does is in `study_app.pages`."""

from study_app.pages import show

if __name__ == "__main__":
    show()
