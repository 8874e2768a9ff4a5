"""The Workers screen: rented machines and their cost."""
