package patch

// SetMask makes the dare methods keep what mask says.
func (o *CombineOptions) SetMask(mask func(module, factor string, place, n int) []bool) {
	o.mask = mask
}
