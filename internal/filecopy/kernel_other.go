//go:build !linux

package filecopy

import "os"

func inKernel(dst *os.File, dstOff int64, src *os.File, srcOff, n int64) (int64, error) {
	return 0, nil
}
