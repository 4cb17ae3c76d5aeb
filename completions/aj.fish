complete --keep-order --exclusive --command aj --arguments "(AJ_COMPLETE=fish aj -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
