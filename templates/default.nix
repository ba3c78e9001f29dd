# `templates`: hosts to start from. tests/nix/evaluation.nix evaluates each of them.
{
  network = {
    path = ./network;
    description = "A whole network of organisations on one host";
  };
  organisation = {
    path = ./organisation;
    description = "One organisation's host: homeserver, proxy and Element, with certificates from the network's CA";
  };
}
