package store

import _ "github.com/weaveplugin/weave/elsewhere"
