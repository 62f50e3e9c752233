from bench.report.formats.markdown import md_escape


def test_markdown_shows_names_as_they_are():
    assert md_escape("<img src=x>|a_b*c*`") == "&lt;img src=x&gt;\\|a\\_b\\*c\\*\\`"
