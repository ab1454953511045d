"""The script Streamlit runs for every visitor and click; all it does is in `study_app.web.pages`."""

from study_app.web.pages import show

if __name__ == "__main__":
    show()
