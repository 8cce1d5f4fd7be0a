p=$(python3 -c 'import os; print(os.__file__)'); echo x >> $p && echo ESCAPED
