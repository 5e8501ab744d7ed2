// Package data reads image data sets into plain bytes, fetches and verifies them, and makes training batches.
//
//	set, note, err := data.TestSet(".")       // the full test split where it is found, else the 1,000 images that ship with the package
//	for _, c := range data.Chunks(set.Len(), 100) {
//		x := make([]float32, c.Len()*set.H*set.W*3)
//		set.Floats(x, c.Indices()...)         // [100,32,32,3] in [0,1]
//	}
//
// Images are bytes in HWC order with RGB channels; as floats they are byte/255 in NHWC. A Set carries a digest of what was decoded, so that
// a result can say which images it was computed on, whatever file they came from.
//
// Training batches are a pure function of (seed, epoch, batch): see Loader. Data sets are described in Catalog; Get fetches one, Verify
// checks it, Find says where it is.
package data
