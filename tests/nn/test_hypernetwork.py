import torch

from dfml.nn.hypernetwork import ChunkedHypernetwork


def test_a_vector_is_its_pieces_one_after_another_cut_to_its_length():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ChunkedHypernetwork(10, embedding=3, chunk=4, hidden=5)
    embeddings = torch.randn(2, 3)
    given = network(embeddings)
    assert given.shape == (2, 10)
    for row, embedding in zip(given, embeddings, strict=True):
        pieces = [network.layers(torch.cat([embedding, code])) for code in network.codes]
        torch.testing.assert_close(row, torch.cat(pieces)[:10])
