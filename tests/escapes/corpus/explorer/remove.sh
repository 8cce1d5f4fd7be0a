rm -rf ./* .hidden
