CREATE TABLE authors (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE books (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    price_cents INTEGER           -- NULL: not known
);
CREATE TABLE book_authors (
    book_id INTEGER NOT NULL REFERENCES books (id),
    author_id INTEGER NOT NULL REFERENCES authors (id),
    position INTEGER NOT NULL,    -- from 1
    PRIMARY KEY (book_id, author_id)
);
CREATE TABLE loans (
    id INTEGER PRIMARY KEY,
    book_id INTEGER NOT NULL REFERENCES books (id),
    reader TEXT NOT NULL,
    lent TEXT NOT NULL,           -- '2023-12-31'
    returned TEXT                 -- NULL while it is lent
);
CREATE TABLE orphaned_loans (
    id INTEGER PRIMARY KEY,
    book INTEGER NOT NULL,
    reader TEXT NOT NULL,
    lent TEXT NOT NULL,           -- as it was
    returned TEXT NOT NULL        -- as it was
);
CREATE INDEX loans_by_book ON loans (book_id);
