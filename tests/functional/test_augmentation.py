import torch
import torch.nn.functional as F

from dfml.functional.augmentation import distort_images, mix_images, shift_and_flip


def test_equals_naive_padding_cropping_and_mirroring():
    images = torch.rand(6, 3, 8, 8)
    out = shift_and_flip(images, torch.Generator().manual_seed(3), shift=2)
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    for i in range(6):
        crops = [padded[i, :, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        candidates = torch.stack(crops + [c.flip(-1) for c in crops])
        assert (candidates == out[i]).flatten(1).all(1).any(), f"sample {i} is no shift or mirror of its image"


def test_without_flip_no_image_is_mirrored():
    ramp = torch.arange(8.0).expand(64, 1, 8, 8).clone()
    out = shift_and_flip(ramp, torch.Generator().manual_seed(0), shift=0, flip=False)
    torch.testing.assert_close(out, ramp)


def test_per_sample_draws_differ_and_a_batch_draw_is_shared():
    image = torch.rand(1, 3, 8, 8).expand(16, 3, 8, 8)
    each = shift_and_flip(image, torch.Generator().manual_seed(0))
    shared = shift_and_flip(image, torch.Generator().manual_seed(0), per_sample=False)
    assert len({tuple(x.flatten().tolist()) for x in each}) > 4
    assert len({tuple(x.flatten().tolist()) for x in shared}) == 1


def test_gradients_are_those_of_the_copied_pixels():
    images = torch.rand(5, 1, 6, 6, requires_grad=True, dtype=torch.float64)
    weights = torch.rand(5, 1, 6, 6, dtype=torch.float64)
    (shift_and_flip(images, torch.Generator().manual_seed(2), shift=2) * weights).sum().backward()
    torch.testing.assert_close(images.grad.sum((1, 2, 3)), weights.sum((1, 2, 3)))
    torch.autograd.gradcheck(lambda x: shift_and_flip(x, torch.Generator().manual_seed(2), shift=2), (images,))


def test_mixed_images_are_averages_or_rectangles_of_two_images():
    images = (torch.arange(40.0) / 40).view(40, 1, 1, 1).expand(40, 1, 8, 8)
    out = mix_images(images, torch.Generator().manual_seed(0), share=0.5)
    kinds = {"same": 0, "averaged": 0, "pasted": 0}
    for before, after in zip(images[:, 0], out[:, 0], strict=True):
        values = after.unique()
        if len(values) == 2:
            changed = (after != before[0, 0]).nonzero()
            (top, left), (bottom, right) = changed.min(0).values, changed.max(0).values
            assert len(changed) == (bottom - top + 1) * (right - left + 1), "not one rectangle"
            kinds["pasted"] += 1
        else:
            kinds["same" if torch.equal(after, before) else "averaged"] += 1
    assert min(kinds.values()) >= 4, kinds
    torch.testing.assert_close(mix_images(images, torch.Generator().manual_seed(0), share=0.0), images.clone())


def test_distortion_of_strength_zero_changes_nothing_and_stronger_ones_change_more():
    images = F.interpolate(torch.rand(32, 3, 4, 4, generator=torch.Generator().manual_seed(0)), 16, mode="bilinear")
    change = []
    for strength in (0.0, 0.3, 1.0):
        out = distort_images(images, torch.Generator().manual_seed(1), strength=strength)
        assert out.shape == images.shape
        assert 0 <= float(out.min()) <= float(out.max()) <= 1
        change.append(float((out - images).abs().mean()))
    assert change[0] < 1e-5
    assert 0.02 < change[1] < change[2]


def test_every_image_is_distorted_on_its_own():
    image = F.interpolate(torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)), 16, mode="bilinear")
    out = distort_images(image.expand(8, 3, 16, 16), torch.Generator().manual_seed(1))
    assert len({tuple(x.flatten().tolist()) for x in out}) == 8
