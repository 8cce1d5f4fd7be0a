cat /proc/$VICTIM/environ /proc/$HARNESS/environ
