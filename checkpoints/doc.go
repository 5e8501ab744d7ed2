// Package checkpoints reads and writes weights and training state.
//
// Weights are safetensors files under PyTorch's tensor names and in PyTorch's layouts. [Open] checks the whole header before it trusts
// any of it and reads tensor data on demand:
//
//	f, err := checkpoints.Open("weights.safetensors")
//	if err != nil {
//		return err
//	}
//	defer f.Close()
//	report := checkpoints.Match(f.Specs(), wanted, "module.", "model.")
//	if err := report.Err(); err != nil {
//		return fmt.Errorf("loading the classifier: %w", err)
//	}
//	for _, w := range wanted {
//		values, shape, err := f.Float32s(report.Source[w.Name])
//		...
//	}
//
// The parts:
//   - [File], [Tensor], [Open], [Parse], [Write]: safetensors in and out.
//   - [OpenAny], [ParseAny]: the same for what torch.save writes, too; nothing of a file is executed.
//   - [Match]: a strict comparison of what a file has with what a model wants.
//   - [SaveState], [LoadState]: training state that survives a kill at any instant, two generations deep.
//   - [Shipped], [ShippedNames]: the small weights that are part of the binary.
//
// Nothing here imports GoMLX: a tensor is a name, a dtype, a shape and little-endian bytes.
package checkpoints
