package train

// bytesPerParam is what AdamW keeps for a parameter: two float32 moments.
const bytesPerParam = 2 * 4

// Footprint compares the optimizer's memory when only some parameters are trained
// with what training all of them would take. It counts the two moments of [AdamW];
// gradients (4 bytes a parameter) grow in the same proportion.
type Footprint struct {
	Trainable int64 `json:"trainable_params"`
	Total     int64 `json:"total_params"`
	// Bytes is the optimizer state of the trainable parameters, FullBytes that of all.
	Bytes     int64 `json:"optimizer_bytes"`
	FullBytes int64 `json:"full_optimizer_bytes"`
}

// OptimizerFootprint returns the comparison for a model of total parameters, those
// of the adapter not included, of which trainable ones are trained.
func OptimizerFootprint(trainable, total int64) Footprint {
	return Footprint{
		Trainable: trainable,
		Total:     total,
		Bytes:     trainable * bytesPerParam,
		FullBytes: total * bytesPerParam,
	}
}

// Times returns how many times smaller the state is than that of full training, or
// 0 if nothing is trained.
func (f Footprint) Times() float64 {
	if f.Bytes == 0 {
		return 0
	}
	return float64(f.FullBytes) / float64(f.Bytes)
}
