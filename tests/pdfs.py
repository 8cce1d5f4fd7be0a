"""A PDF of a few pages, made by hand: its objects, and where each begins."""

from __future__ import annotations


def pdf(*pages: str, title: str = "") -> bytes:
    """One line of ASCII text on each page."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(count))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        drawn = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * number} 0 R >>"
        )
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    objects.append(f"<< /Title ({title}) >>")
    out, offsets = b"%PDF-1.4\n", [0]
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets[1:])
    head = f"xref\n0 {len(offsets)}\n0000000000 65535 f \n{table}"
    tail = f"trailer\n<< /Size {len(offsets)} /Root 1 0 R /Info {len(objects)} 0 R >>\n"
    return out + f"{head}{tail}startxref\n{len(out)}\n%%EOF\n".encode()
