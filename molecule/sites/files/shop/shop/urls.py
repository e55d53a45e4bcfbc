import os

from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.db import connection
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import path

from shop.models import Upload


@login_required
def home(request):
    if request.method == "POST":
        Upload.objects.create(file=request.FILES["file"])
        return redirect("/")
    return render(request, "home.html", {"uploads": Upload.objects.all()})


def health(_request):
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    return HttpResponse(f"release {os.environ['APP_RELEASE']}")


urlpatterns = [path("", home), path("login/", LoginView.as_view()), path("health/", health)]
