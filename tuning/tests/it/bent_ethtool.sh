#!/bin/sh
# Does what the file `script` beside it says.
. "${0%/*}/script"
