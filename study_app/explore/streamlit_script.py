"""The script Streamlit runs for every visit to `evalkit explore`; all it does is in `study_app.explore.page`."""

from study_app.explore.page import show

if __name__ == "__main__":
    show()
