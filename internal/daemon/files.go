package daemon

import "syscall"

// openFiles is how many files the process may have open. The Go runtime has raised the soft limit to the hard one.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 1024 // as many as Linux gives by default
	}
	return limit.Cur
}
