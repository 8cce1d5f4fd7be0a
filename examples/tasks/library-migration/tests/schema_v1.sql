CREATE TABLE books (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    authors TEXT NOT NULL,        -- 'Ada Lovelace; Grace Hopper'
    price TEXT                    -- '12,50', '12.5', '7', '' or NULL
);
CREATE TABLE loans (
    id INTEGER PRIMARY KEY,
    book INTEGER NOT NULL,        -- a book's id; nothing checks it
    reader TEXT NOT NULL,
    lent TEXT NOT NULL,           -- '31.12.2023'
    returned TEXT NOT NULL        -- '' while it is lent
);
