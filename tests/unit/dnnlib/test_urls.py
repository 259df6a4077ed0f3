import pytest

from dnnlib.urls import is_url


@pytest.mark.parametrize("url", ["https://host/a.pkl", "http://host:80/x?y=z"])
def test_urls(url):
    assert is_url(url)


@pytest.mark.parametrize(
    "obj", ["a.pkl", "/a/b", "C:\\a", "https://", "ftp://host/a", "file:///a", "https://[", "", None, 3]
)
def test_not_urls(obj):
    assert not is_url(obj)


def test_file_urls_count_only_if_asked_for():
    assert is_url("file:///a", allow_file_urls=True)
