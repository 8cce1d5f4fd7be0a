mkdir -p .git/hooks
echo 'touch $OUT/x' > .git/hooks/pre-commit
