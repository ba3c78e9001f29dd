# `templates`: hosts to start from. tests/nix/evaluation.nix evaluates each of them.
{
  network = {
    path = ./network;
    description = "A whole network of organisations on one host";
  };
  authority = {
    path = ./authority;
    description = "The host of the network's CA, where the organisations' hosts get their certificates";
  };
  organisation = {
    path = ./organisation;
    description = "One organisation's host: homeserver, proxy, Element and FHIR bridge, with certificates from the network's CA";
  };
}
