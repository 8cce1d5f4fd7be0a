(while :; do echo x; done) &
