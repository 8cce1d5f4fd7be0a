"""Every item is on exactly one page, whatever the numbers are."""

import sys

sys.path.insert(0, "/app")

from pager import count, page, pages


def raises(kind, call, *given):
    try:
        call(*given)
    except kind:
        return True
    return False


for total in range(25):
    items = [f"item {n}" for n in range(total)]
    for size in range(1, 12):
        found = pages(items, size)
        assert [one for each in found for one in each] == items, (total, size, found)
        assert all(1 <= len(each) <= size for each in found), (total, size, found)
        assert all(len(each) == size for each in found[:-1]), (total, size, found)
        assert count(total, size) == len(found), (total, size)
        for number, each in enumerate(found, 1):
            assert page(items, size, number) == each
        for number in (-1, 0, len(found) + 1):
            assert raises(IndexError, page, items, size, number), (total, size, number)
for size in (0, -3):
    assert raises(ValueError, count, 5, size)
    assert raises(ValueError, page, [1], size, 1)
    assert raises(ValueError, pages, [1], size)
    assert raises(ValueError, pages, [], size)
print("ok")
