package daemon

import (
	"fmt"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/breakerd/breakerd/internal/testkit"
)

// stoppedTerminal is one on which somebody has pressed Ctrl-S: it takes no output.
func stoppedTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	ioctl := func(f *os.File, request, arg uintptr) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, arg); errno != 0 {
			t.Fatal(errno)
		}
	}
	var unlock, number int32
	ioctl(master, syscall.TIOCSPTLCK, uintptr(unsafe.Pointer(&unlock)))
	ioctl(master, syscall.TIOCGPTN, uintptr(unsafe.Pointer(&number)))
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	const tcxonc, tcooff = 0x540A, 0
	ioctl(terminal, tcxonc, tcooff)
	return terminal
}

func TestBanner_OfAStoppedTerminalHoldsNothing(t *testing.T) {
	t.Parallel()
	terminal, stderr, exit := stoppedTerminal(t), &testkit.Buffer{}, make(chan int, 1)
	signals := make(chan os.Signal, 1)
	go func() {
		exit <- testProgram(http.NewServeMux(), time.Minute, make(chan bool, 1)).
			run(t.Context(), nil, []string{"TEST_LISTEN=127.0.0.1:0"}, terminal, stderr, signals, manager{})
	}()
	signals <- syscall.SIGTERM
	select {
	case code := <-exit:
		if code != exitOK {
			t.Errorf("exit code %d: %s", code, stderr.String())
		}
	case <-time.After(20 * time.Second):
		t.Error("the greeting holds the program")
	}
}
